package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// ReportBounce takes what came back for a mail of the chapter.
func (s *Service) ReportBounce(ctx context.Context, req *localv1.ReportBounceRequest) (*localv1.ReportBounceResponse, error) {
	given := bounceReport{messageID: req.GetMessageId(), status: req.GetStatus(), failed: true}
	if len(req.GetRaw()) > 0 {
		var err error
		if given, err = readReport(req.GetRaw()); err != nil {
			return nil, rpc.Invalid(errorv1.Reason_REASON_BOUNCE_UNREADABLE, "raw", "%s", err)
		}
	}
	id, found := given.mail()
	if !found {
		return nil, rpc.Invalid(errorv1.Reason_REASON_BOUNCE_UNREADABLE, "messageId", "is not that of a mail from here")
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.ReportBounceResponse, error) {
		answer := &localv1.ReportBounceResponse{Bounced: given.hard(), Status: given.status, Mail: id.String()}
		return answer, orNotFound(takeBounce(ctx, tx, given, id, chapterID(req.GetParent()), s.clock.Now()), "the mail "+id.String())
	})
}

// takeBounce takes what came back for a mail, of this chapter or, where none is given, of any. Only a hard bounce changes
// anything.
func takeBounce(ctx context.Context, tx pgx.Tx, given bounceReport, id uuid.UUID, chapter string, now time.Time) error {
	q := db.New(tx)
	found, err := q.MailByID(ctx, id)
	if err == nil && chapter != "" && found.ChapterID != chapter {
		err = pgx.ErrNoRows
	}
	if err != nil || !given.hard() {
		return err
	}
	said := (&mail.Error{Kind: mail.Permanent, At: "report", Code: given.code, Status: given.status}).Error()
	if err := q.BounceMail(ctx, db.BounceMailParams{MailNo: found.MailNo, Failure: said}); err != nil {
		return err
	}
	if found.Kind == mailNotice {
		return bounceOfficers(ctx, tx, found.Token, said, now)
	}
	return buryBounced(ctx, tx, found.ListNo, found.AnnouncementID, found.Token, said, now)
}

// mail is the mail of ours that it is about.
func (r bounceReport) mail() (uuid.UUID, bool) {
	local, _, _ := strings.Cut(strings.Trim(strings.TrimSpace(r.messageID), "<>"), "@")
	for _, text := range []string{local, r.returnPath} {
		if id, err := uuid.Parse(text); err == nil {
			return id, true
		}
	}
	return uuid.UUID{}, false
}

// buryBounced makes a tombstone of a person on every list that a mail stood for.
func buryBounced(ctx context.Context, tx pgx.Tx, listNo int64, announcement *uuid.UUID, token []byte, said string, now time.Time) error {
	lists, err := db.New(tx).ListsOfMail(ctx, db.ListsOfMailParams{ListNo: listNo, AnnouncementID: announcement, Token: token})
	if err != nil {
		return err
	}
	for _, list := range lists { // a person is on a handful
		if _, err := bury(ctx, tx, list, bounced, consent{hardBounce, now, "mail", said}, token); err != nil {
			return err
		}
	}
	return nil
}

// bounceReport is what came back, as far as it matters.
type bounceReport struct {
	messageID string
	// returnPath is the mail's ID as the address has it that the report came to (VERP).
	returnPath string
	// status is the enhanced one (RFC 3463), and code the server's answer where that is known.
	status string
	code   int
	// failed says that it was given up, as opposed to delayed or delivered.
	failed bool
}

// hard says whether nobody is reached at the address, by the same rule as for an answer during delivery.
func (r bounceReport) hard() bool {
	refusal := mail.Error{Kind: mail.Permanent, At: "RCPT", Status: r.status, Code: r.code}
	return r.failed && strings.HasPrefix(r.status, "5.") && refusal.Bounce()
}

// depth bounds how deep a report may be nested.
const reportDepth = 5

var (
	errNoReport    = errors.New("is no delivery status notification (RFC 3464)")
	smtpCode       = regexp.MustCompile(`\b([245]\d\d)\b`)
	verpTag        = regexp.MustCompile(`\+([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})@`)
	enhancedStatus = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}`)
)

// readReport reads a delivery status notification (RFC 3464): one about a single mail to a single person, as ours are.
func readReport(raw []byte) (bounceReport, error) {
	entity, err := message.Read(bytes.NewReader(raw))
	if entity == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return bounceReport{}, errNoReport
	}
	var report bounceReport
	if err := report.readParts(entity, reportDepth); err != nil {
		return report, errNoReport
	}
	if report.messageID == "" { // some leave the mail out, but answer it
		report.messageID = entity.Header.Get("In-Reply-To")
	}
	for _, name := range []string{"Delivered-To", "X-Original-To", "To"} {
		if tag := verpTag.FindStringSubmatch(entity.Header.Get(name)); tag != nil && report.returnPath == "" {
			report.returnPath = tag[1]
		}
	}
	if report.status == "" || report.messageID == "" && report.returnPath == "" {
		return report, errNoReport
	}
	return report, nil
}

func (r *bounceReport) readParts(entity *message.Entity, depth int) error {
	parts := entity.MultipartReader()
	if parts == nil || depth == 0 {
		return r.readPart(entity)
	}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if part == nil {
			return err
		}
		if err := r.readParts(part, depth-1); err != nil {
			return err
		}
	}
}

// readPart reads a part that says how it went, or of which mail.
func (r *bounceReport) readPart(part *message.Entity) error {
	media, _, _ := part.Header.ContentType()
	switch media {
	case "message/delivery-status", "message/global-delivery-status":
		return r.readStatus(bufio.NewReader(part.Body))
	case "message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers":
		header, err := textproto.ReadHeader(bufio.NewReader(io.MultiReader(part.Body, strings.NewReader("\r\n\r\n"))))
		if err != nil {
			return err
		}
		r.messageID = header.Get("Message-Id")
	}
	return nil
}

// readStatus reads the groups of fields: the first is about the mail, each further one about a recipient.
func (r *bounceReport) readStatus(body *bufio.Reader) error {
	for {
		fields, err := textproto.ReadHeader(body)
		if fields.Has("Action") {
			r.failed = isFailed(fields.Get("Action"))
			r.status = enhancedStatus.FindString(strings.TrimSpace(fields.Get("Status")))
			if code := smtpCode.FindString(fields.Get("Diagnostic-Code")); code != "" {
				r.code, _ = strconv.Atoi(code)
			}
		}
		if errors.Is(err, io.EOF) || err == nil && fields.Len() == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// isFailed compares as RFC 3464 demands, without case.
func isFailed(action string) bool { return asciiLower(strings.TrimSpace(action)) == "failed" }
