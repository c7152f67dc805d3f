package international

import (
	"context"
	"strconv"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// SearchMembers finds members by the beginnings of the words of the display name, or by an exact address.
func (s *Service) SearchMembers(ctx context.Context, req *internationalv1.SearchMembersRequest) (*internationalv1.SearchMembersResponse, error) {
	words := wordsOf(req.GetDisplayName())
	if (len(words) == 0) == (req.GetAddress() == "") {
		return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "displayName", "give words of a display name, or an address")
	}
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	var at string
	if req.GetAddress() != "" {
		if at, err = canonical(req.GetAddress(), "address"); err != nil {
			return nil, err
		}
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.SearchMembersResponse, error) {
		q := db.New(tx)
		var rows []db.Member
		if at != "" {
			rows, err = q.MembersAt(ctx, db.MembersAtParams{Address: at, After: page.number(), Size: page.size + 1})
		} else {
			rows, err = q.MembersNamed(ctx, db.MembersNamedParams{Query: strings.Join(words, " & "), After: page.number(), Size: page.size + 1})
		}
		if err != nil {
			return nil, err
		}
		rows, next := cutPage(page, rows, func(last db.Member) string { return strconv.FormatInt(last.MemberNo, 10) })
		members, err := viewMembers(ctx, q, rows)
		return &internationalv1.SearchMembersResponse{Members: members, NextPageToken: next}, err
	})
}

// wordsOf makes a full-text query's terms of what somebody typed, each the beginning of a word. Only letters and numbers
// get into it, so nothing of the query's own language does.
func wordsOf(typed string) []string {
	words := strings.FieldsFunc(typed, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) })
	for i, word := range words {
		words[i] = "'" + word + "':*"
	}
	return words
}
