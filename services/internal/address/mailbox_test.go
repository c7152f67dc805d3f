package address_test

import (
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
)

func TestParseMailbox(t *testing.T) {
	for _, c := range []struct{ in, name, addr string }{
		{"ada@example.org", "", "ada@example.org"},
		{"  ada@example.org\t", "", "ada@example.org"},
		{"<ada@example.org>", "", "ada@example.org"},
		{"Ada Rao <ada@example.org>", "Ada Rao", "ada@example.org"},
		{"Ada Rao<ada@example.org>", "Ada Rao", "ada@example.org"},
		{`"Rao, Ada" <ada@example.org>`, "Rao, Ada", "ada@example.org"},
		{`"Ada \"Ace\" Rao" <ada@example.org>`, `Ada "Ace" Rao`, "ada@example.org"},
		{`"Ada <boss>" < ada@example.org >`, "Ada <boss>", "ada@example.org"},
		{"Rao, Ada (Paris) <ada@example.org>", "Rao, Ada (Paris)", "ada@example.org"},
		{"Jose\u0301 <jose@example.org>", "José", "jose@example.org"},
		{"=?utf-8?q?Jos=C3=A9?= <jose@example.org>", "José", "jose@example.org"},
		{"=?koi8-r?q?=C1?= <a@example.org>", "=?koi8-r?q?=C1?=", "a@example.org"},
		{"ada@example.org (Ada Rao)", "Ada Rao", "ada@example.org"},
		{"Ada Rao", "", "Ada Rao"},
		{"Ada Rao <>", "Ada Rao", ""},
		{"Ada>", "", "Ada>"},
		{"", "", ""},
		{"<\ufeffada@example.org>", "", "\ufeffada@example.org"},
	} {
		if name, addr := address.ParseMailbox(c.in); name != c.name || addr != c.addr {
			t.Errorf("ParseMailbox(%+q) = %+q, %+q; want %+q, %+q", c.in, name, addr, c.name, c.addr)
		}
	}
}

func TestDisplayName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Ada Rao", "Ada Rao"},
		{"", ""},
		{" Ada \t\r\n Rao ", "Ada Rao"},
		{"A\u0000d\u0007a", "Ada"},
		{"Ada\u202eoaR", "AdaoaR"},
		{"Jose\u0301", "José"},
		{"e\u200b\u0301", "é"},
		{"\ufeffAda", "Ada"},
		{"Nguyễn\u00a0Lea", "Nguyễn Lea"},
		{"ക്\u200dഷ", "ക്\u200dഷ"},
		{"Nov\xe1k", "Nov\ufffdk"},
		{strings.Repeat("a", 250), strings.Repeat("a", 200)},
		{strings.Repeat("é", 199) + " é", strings.Repeat("é", 199)},
	} {
		if got := address.DisplayName(c.in); got != c.want {
			t.Errorf("DisplayName(%+q) = %+q; want %+q", c.in, got, c.want)
		}
	}
}
