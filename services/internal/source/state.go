package source

import (
	"slices"
	"strings"
	"sync"
)

// An export may list who has left beside who is there: taken for a list, it would bring all of them back. So the columns
// that say it are found by their headers, and a row that says so itself is a rejection. Words that are not known are taken
// for subscribed, since a row that is not read can be one that is removed.

// NotSubscribed is the code of such a row.
const NotSubscribed = "SOURCE_NOT_SUBSCRIBED"

func notSubscribed(why string) *Rejection {
	return &Rejection{NotSubscribed, "the source itself says that this address is not subscribed: " + why}
}

// stateColumn is a column that says who has left.
type stateColumn struct {
	column int
	// filled is what any cell but an empty one or a no means, as in UNSUB_TIME; nil where the cells are words.
	filled *Rejection
	// Most rows say what the row before them said.
	last string
	said *Rejection
}

// rejection is what the cell says, nil for subscribed.
func (s *stateColumn) rejection(cell string) *Rejection {
	if cell != s.last {
		s.last, s.said = strings.Clone(cell), s.meaning(key(cell))
	}
	return s.said
}

func (s *stateColumn) meaning(word string) *Rejection {
	if s.filled == nil {
		return states()[word]
	}
	if word == "" || slices.Contains(noes, word) {
		return nil
	}
	return s.filled
}

var noes = []string{"0", "no", "n", "false", "nein", "non", "não", "nao", "いいえ"}

// states holds the words of list tools for the state of a subscription, by key; nil means subscribed.
var states = sync.OnceValue(func() map[string]*Rejection {
	words := make(map[string]*Rejection)
	for _, state := range []struct {
		why  string
		list string
	}{
		{"unsubscribed", `unsubscribed; unsubscribe; unsub; opted out; opt-out; non-subscribed; not subscribed; left; abgemeldet; ausgetragen; ausgetreten;
			désabonné; désabonnée; désinscrit; désinscrite; dado de baja; baja; desuscrito; desinscrito; descadastrado; cancelado; 退会; 退会済み; 配信停止; 購読解除; 解除`},
		{"cleaned", `cleaned`},
		{"bounced", `bounced; bouncing; bounce; hard bounce; hard bounced; by bounces; undeliverable; unzustellbar; rebotado; エラー`},
		{"blocklisted", `blocklisted; blacklisted; blocked; gesperrt; bloqué; bloquée; bloqueado; ブロック`},
		{"banned", `banned; banni; bannie; baneado; banido`},
		{"disabled", `disabled; deaktiviert; désactivé; desactivado; desativado; 無効`},
		{"not confirmed", `pending; unconfirmed; not confirmed; unverified; ausstehend; unbestätigt; en attente; non confirmé; pendiente; sin confirmar; pendente; 保留中; 未確認`},
		{"invited", `invited; invitation sent; eingeladen; invité; invitée; invitado; convidado; 招待中; 招待済み`},
		{"complained of spam", `complained; complaint; spam complaint; marked as spam; spam; junk`},
		{"archived", `archived; archiviert; archivé; archivado; arquivado`},
		{"", `subscribed; confirmed; enabled; active; verified; member; owner; manager; moderator; administrator; by user; by moderator; deliverable;
			abonniert; angemeldet; bestätigt; aktiv; mitglied; abonné; abonnée; inscrit; inscrite; actif; membre; suscrito; activo; miembro;
			inscrito; assinante; ativo; membro; 購読中; 登録済み; 有効; 会員`},
	} {
		var meaning *Rejection
		if state.why != "" {
			meaning = notSubscribed(state.why)
		}
		for word := range strings.SplitSeq(state.list, ";") {
			words[key(word)] = meaning
		}
	}
	return words
})

// stateHeaders are the headers of such columns, by key.
var stateHeaders = sync.OnceValue(func() map[string]stateHeader {
	headers := make(map[string]stateHeader)
	for _, h := range []struct {
		stateHeader
		list string
	}{
		{stateHeader{sure: true}, `subscription status; subscription state; subscriber status; group status; email status; email state; delivery status;
			newsletter status; mailing status; opt-in status; Gruppenstatus; Abostatus; Newsletter-Status; statut d'abonnement; statut de l'abonnement; statut du groupe;
			estado de suscripción; estado de la suscripción; estado del grupo; status da inscrição; status da assinatura; 購読状態; 配信状態; 配信ステータス`},
		{stateHeader{}, `status; state; member status; contact status; Zustand; statut; état; estado; situação; 状態; ステータス`},
		{stateHeader{sure: true, filled: notSubscribed("unsubscribed")}, `unsub_time; unsub_reason; unsubscribed; unsubscribed at; unsubscribe date; date unsubscribed;
			opted out; opt-out; email opt out; abgemeldet; abgemeldet am; désabonné; désinscrit; 退会日`},
		{stateHeader{sure: true, filled: notSubscribed("cleaned")}, `clean_time`},
	} {
		for header := range strings.SplitSeq(h.list, ";") {
			headers[key(header)] = h.stateHeader
		}
	}
	return headers
})

// stateHeader says how much a header is worth: "Status" and "State" alone may be about anything, a province too.
type stateHeader struct {
	sure   bool
	filled *Rejection
}

// findStates finds the columns that say who has left. A header that may mean something else counts where most of its
// cells are known words.
func findStates(header []string, rows [][]string, address int) []stateColumn {
	var found []stateColumn
	for column, text := range header {
		h, ok := stateHeaders()[key(text)]
		if ok && column != address && (h.sure || mostlyStates(rows, column)) {
			found = append(found, stateColumn{column: column, filled: h.filled})
		}
	}
	return found
}

func mostlyStates(rows [][]string, column int) bool {
	filled, known := 0, 0
	for _, cells := range rows {
		word := key(cell(cells, column))
		if word == "" {
			continue
		}
		filled++
		if _, ok := states()[word]; ok {
			known++
		}
	}
	return known > 0 && 2*known >= filled
}
