package local

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// The kinds of consents as the database has them.
const (
	requested  = int16(localv1.Consent_REQUESTED)
	granted    = int16(localv1.Consent_GRANTED)
	withdrawn  = int16(localv1.Consent_WITHDRAWN)
	hardBounce = int16(localv1.Consent_BOUNCED)
)

// consent is what a person agreed to or took back: when, how, and the text that was shown.
type consent struct {
	kind   int16
	at     time.Time
	method string
	text   string
}

// record keeps a consent of each person whom one of the entries stands for.
func record(ctx context.Context, tx pgx.Tx, listNo int64, c consent, tokens ...[]byte) error {
	q := db.New(tx)
	args := db.InsertConsentsParams{ListNo: listNo, Tokens: tokens, Kind: c.kind, Time: c.at, Method: c.method}
	if c.text != "" {
		digest := sha256.Sum256([]byte(c.text))
		number, err := q.PutConsentText(ctx, db.PutConsentTextParams{Digest: digest[:], Text: c.text})
		if err != nil {
			return fmt.Errorf("keep a consent's text: %w", err)
		}
		args.TextNo = &number
	}
	if err := q.InsertConsents(ctx, args); err != nil {
		return fmt.Errorf("record a consent: %w", err)
	}
	return nil
}

// ListConsents lists what is recorded of a person on a list, newest first. It outlives the entry.
func (s *Service) ListConsents(ctx context.Context, req *localv1.ListConsentsRequest) (*localv1.ListConsentsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := int64(math.MaxInt64)
	if page.after != "" {
		before, _ = strconv.ParseInt(page.after, 10, 64) // sealed by us
	}
	q := db.New(s.pool)
	list, err := findList(ctx, q, req.GetParent())
	if err != nil {
		return nil, err
	}
	token, ok := entryToken(req.GetParent())
	if !ok {
		return nil, notFound(req.GetParent())
	}
	rows, err := q.ConsentsBefore(ctx, db.ConsentsBeforeParams{ListNo: list.ListNo, Token: token, Before: before, Size: page.fetch()})
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListConsentsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(c db.ConsentsBeforeRow) string { return strconv.FormatInt(c.ConsentNo, 10) })
	for _, row := range rows {
		answer.Consents = append(answer.Consents, &localv1.Consent{
			Kind: localv1.Consent_Kind(row.Kind), Time: timestamppb.New(row.Time), Method: row.Method, Text: row.Text,
		})
	}
	return answer, nil
}
