package bus

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func vectors() map[string]envelope {
	at := time.Date(2026, 3, 1, 12, 30, 15, 123456000, time.UTC)
	data, _ := proto.Marshal(wrapperspb.String("hello"))
	full := envelope{
		id: uuid.MustParse("0195f2a1-1111-7222-8333-444455556666"), source: "/chapterhouse/local/main",
		subject: "list.golang-paris.members.changed", typ: "google.protobuf.StringValue", time: at,
		aggregate: "chapters/golang-paris/lists/members", version: Version{Epoch: 1772368215123456, Number: 42},
		part: 2, parts: 3, traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", data: data,
	}
	notice := full
	notice.aggregate, notice.version, notice.part, notice.parts, notice.traceparent = "", Version{}, 1, 1, ""
	notice.subject, notice.data = "standing.golang-paris.eligibility_gained", []byte{}
	odd := full
	odd.aggregate = "chapters/Zürich \"50%\" €"
	return map[string]envelope{"full": full, "notice": notice, "percent-encoded": odd}
}

// text is a message as it stands in a golden file.
func text(msg *nats.Msg) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", msg.Subject)
	for _, name := range slices.Sorted(maps.Keys(msg.Header)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(msg.Header[name], " | "))
	}
	fmt.Fprintf(&b, "\n%x\n", msg.Data)
	return b.String()
}

// The golden files are what other programs may rely on: they change with intent or not at all.
func TestCloudEventVectors(t *testing.T) {
	t.Parallel()
	for name, e := range vectors() {
		t.Run(name, func(t *testing.T) {
			msg := e.message(Local, "main")
			want, err := os.ReadFile(filepath.Join("testdata", name+".event"))
			if err != nil {
				t.Fatal(err)
			}
			if got := text(msg); got != string(want) {
				t.Errorf("the message is\n%s\nwant\n%s", got, want)
			}
			back, err := decode(msg.Subject, msg.Header, msg.Data, Local, "main")
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(back) != fmt.Sprint(e) {
				t.Errorf("it is read back as\n%v\nwant\n%v", back, e)
			}
		})
	}
}

func TestDecodeTakesWhatOtherProducersWrite(t *testing.T) {
	t.Parallel()
	msg := vectors()["full"].message(Local, "main")
	odd := nats.Header{}
	for name, values := range msg.Header {
		odd[strings.ToUpper(name)] = values
	}
	odd["CE-AGGREGATE"] = []string{`"chapters/\"a\" b%2fc"`}
	odd["CE-UNKNOWNEXTENSION"] = []string{"1"}
	e, err := decode(msg.Subject, odd, msg.Data, Local, "main")
	if err != nil {
		t.Fatal(err)
	}
	if want := `chapters/"a" b/c`; e.aggregate != want {
		t.Errorf("aggregate %q, want %q", e.aggregate, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*nats.Msg){
		"no id":                    func(m *nats.Msg) { m.Header.Del("ce-id") },
		"an id that is no UUID":    func(m *nats.Msg) { m.Header.Set("ce-id", "7") },
		"no type":                  func(m *nats.Msg) { m.Header.Del("ce-type") },
		"no time":                  func(m *nats.Msg) { m.Header.Set("ce-time", "yesterday") },
		"another spec version":     func(m *nats.Msg) { m.Header.Set("ce-specversion", "0.3") },
		"another content type":     func(m *nats.Msg) { m.Header.Set("ce-datacontenttype", "application/json") },
		"another source":           func(m *nats.Msg) { m.Header.Set("ce-source", "/chapterhouse/regional/main") },
		"another stream's subject": func(m *nats.Msg) { m.Subject = "ch.local.other.list.x.changed" },
		"a subject without an id":  func(m *nats.Msg) { m.Subject = "ch.local.main.list" },
		"number 0":                 func(m *nats.Msg) { m.Header.Set("ce-number", "0") },
		"a number that is a word":  func(m *nats.Msg) { m.Header.Set("ce-number", "one") },
		"no epoch":                 func(m *nats.Msg) { m.Header.Del("ce-epoch") },
		"part 4 of 3":              func(m *nats.Msg) { m.Header.Set("ce-part", "4") },
		"bad percent-encoding":     func(m *nats.Msg) { m.Header.Set("ce-aggregate", "%zz") },
		"overlong UTF-8":           func(m *nats.Msg) { m.Header.Set("ce-aggregate", "%C0%A0") },
		"nothing at all":           func(m *nats.Msg) { m.Header = nil },
	} {
		t.Run(name, func(t *testing.T) {
			msg := vectors()["full"].message(Local, "main")
			change(msg)
			if e, err := decode(msg.Subject, msg.Header, msg.Data, Local, "main"); err == nil {
				t.Errorf("it is read as %v", e)
			}
		})
	}
}

func FuzzPercentEncoding(f *testing.F) {
	f.Add("Euro € \U0001f600 100%")
	f.Fuzz(func(t *testing.T, value string) {
		encoded := percentEncode(value)
		if strings.ContainsFunc(encoded, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("%q does not fit into a header", encoded)
		}
		decoded, err := percentDecode(encoded)
		if err == nil && decoded != value {
			t.Fatalf("%q came back as %q", value, decoded)
		}
	})
}
