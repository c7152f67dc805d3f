package international

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/source"
	"github.com/chapterhouse/chapterhouse/services/internal/upload"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

const (
	// importStep is how many rows are staged in one COPY: it bounds what is in memory.
	importStep = 5000
	// cleanUpTimeout bounds the removal of what a failed upload left.
	cleanUpTimeout = 5 * time.Second
	// maxDisplayName is that of the API.
	maxDisplayName = 200
)

// importFields are the columns beside the address and the name.
var importFields = []string{"memberId", "termEndTime"}

// ImportMembers uploads a file and plans; with apply also applies.
func (s *Service) ImportMembers(stream grpc.ClientStreamingServer[internationalv1.ImportMembersRequest, internationalv1.MemberImport]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	header := first.GetHeader()
	if header == nil {
		return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "header", "must be the first message")
	}
	done, err := s.importMembers(stream.Context(), header, func() ([]byte, error) {
		message, err := stream.Recv()
		if err == nil && message.GetHeader() != nil {
			err = rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "header", "must come once")
		}
		return message.GetChunk(), err
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(done)
}

func (s *Service) importMembers(ctx context.Context, header *internationalv1.ImportMembersHeader, recv func() ([]byte, error)) (*internationalv1.MemberImport, error) {
	staged, err := s.stageImport(ctx, header, recv)
	if err != nil {
		return nil, err
	}
	ctx = rpc.WithIdempotency(ctx, orElse(header.GetRequestId(), rpc.IdempotencyKey(ctx)), importHash(header, staged.sum))
	answer := &internationalv1.MemberImport{}
	if found, err := rpc.Answered(ctx, s.pool, answer); found || err != nil {
		s.dropImport(ctx, staged.importNo)
		return answer, err
	}
	plan, err := s.planImport(ctx, staged)
	if err != nil {
		s.dropImport(ctx, staged.importNo)
		return nil, err
	}
	answer, err = inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.MemberImport, error) {
		if header.GetApply() {
			if plan, err = s.applyImport(ctx, tx, plan, s.clock.Now()); err != nil {
				return nil, err
			}
		}
		return s.viewImport(plan), nil
	})
	if err != nil || answer.GetName() != "memberImports/"+plan.ID.String() {
		// It failed, or another replica answered this request meanwhile: nobody will ask for this plan.
		s.dropImport(ctx, plan.ImportNo)
	}
	return answer, err
}

// importHash sums up what an import was asked for: two calls are the same when it is.
func importHash(header *internationalv1.ImportMembersHeader, sum []byte) []byte {
	asked, _ := proto.Clone(header).(*internationalv1.ImportMembersHeader)
	asked.RequestId = ""
	text, _ := proto.MarshalOptions{Deterministic: true}.Marshal(asked) // it came from the wire
	whole := sha256.Sum256(append(text, sum...))
	return whole[:]
}

// stagedImport is a file that lies in import_rows.
type stagedImport struct {
	importNo int64
	rows     int
	sum      []byte
}

// stageImport writes a file into import_rows, as it arrives and in short steps: while the network is waited for, no
// transaction is open.
func (s *Service) stageImport(ctx context.Context, header *internationalv1.ImportMembersHeader, recv func() ([]byte, error)) (stagedImport, error) {
	limits := upload.Limits{Idle: s.config.UploadIdle, Whole: s.config.UploadLimit, Bytes: s.config.MaxUploadBytes, Rows: s.config.MaxUploadRows}
	limited, cancel := limits.WithLimit(ctx)
	defer cancel()
	importNo, err := db.New(s.pool).NextImportNo(ctx)
	if err != nil {
		return stagedImport{}, fmt.Errorf("number the import: %w", err)
	}
	staged := stagedImport{importNo: importNo}
	arriving := upload.NewReader(limited, recv, limits)
	if staged.rows, err = s.stageRows(limited, importNo, arriving, header.GetContentType(), limits.Rows); err == nil {
		staged.sum, err = arriving.Sum()
	}
	if err != nil {
		s.dropImport(ctx, importNo)
		return staged, limits.Refusal(err)
	}
	return staged, nil
}

func (s *Service) stageRows(ctx context.Context, importNo int64, arriving io.Reader, contentType string, maxRows int) (rows int, err error) {
	reader, err := source.New(arriving, contentType, source.Options{MaxRows: maxRows, Fields: importFields})
	if err != nil {
		return 0, err
	}
	q, now := db.New(s.pool), s.clock.Now()
	step := make([]db.CopyImportRowsParams, 0, importStep)
	flush := func() error {
		if _, err := q.CopyImportRows(ctx, step); err != nil {
			return fmt.Errorf("stage rows: %w", err)
		}
		step = step[:0]
		return nil
	}
	for {
		row, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return rows, flush()
		}
		if err != nil {
			return rows, err
		}
		rows++
		staged := importRow(row, now)
		staged.ImportNo, staged.UploadTime = importNo, now
		if step = append(step, staged); len(step) == importStep {
			if err := flush(); err != nil {
				return rows, err
			}
		}
	}
}

var memberID = regexp.MustCompile(`^([a-z]([a-z0-9-]{0,61}[a-z0-9])?|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`)

// importRow judges what can be judged of a row by itself. What cannot be used keeps its line and the reason, and of its
// text nothing that is not understood.
func importRow(row source.Row, now time.Time) db.CopyImportRowsParams {
	staged := db.CopyImportRowsParams{Line: int32(row.Line), Address: row.Address, DisplayName: row.DisplayName}
	reject := func(code, text string) db.CopyImportRowsParams {
		staged.Kind, staged.Code, staged.Message = int16(internationalv1.MemberImportChange_REJECTED), code, text
		return staged
	}
	if row.Rejected != nil {
		return reject(row.Rejected.Code, row.Rejected.Text)
	}
	id := strings.TrimPrefix(row.Fields[0], "members/")
	if id != "" && !memberID.MatchString(id) {
		return reject("MEMBER_ID_INVALID", "memberId must be like a-member-2, or a lower-case UUID")
	}
	staged.MemberID = id
	if len([]rune(row.DisplayName)) > maxDisplayName {
		return reject("NAME_TOO_LONG", "displayName has at most 200 characters")
	}
	if row.Fields[1] == "" {
		return staged
	}
	end, err := parseTermEnd(row.Fields[1])
	if err != nil {
		return reject("TERM_END_UNREADABLE", "termEndTime must be a date, 2027-06-30, or a time, 2027-06-30T00:00:00Z")
	}
	if !end.After(now) {
		return reject("TERM_END_PAST", "termEndTime is over; leave it empty to enter somebody without a term")
	}
	staged.TermEnd = &end
	return staged
}

// parseTermEnd reads a time, or a date, on which a term ends as it begins (UTC).
func parseTermEnd(text string) (time.Time, error) {
	end, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		end, err = time.Parse(time.DateOnly, text)
	}
	return end.Truncate(time.Microsecond), err
}

// dropImport removes an upload that will not be planned, or the plan. What it cannot remove now, the clean-up job does.
func (s *Service) dropImport(ctx context.Context, importNo int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	q := db.New(s.pool)
	_, err := q.DeleteImportRows(ctx, importNo)
	if err = errors.Join(err, q.DeleteImport(ctx, importNo)); err != nil {
		s.log.WarnContext(ctx, "an import's rows stay for the clean-up", "error", err)
	}
}

// planImport finds the fate of every row, as of one moment, and stores it. It writes nothing that others wait for.
func (s *Service) planImport(ctx context.Context, staged stagedImport) (db.Import, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return db.Import{}, err
	}
	return postgres.InTxOptions(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) (db.Import, error) {
		q, now := db.New(tx), s.clock.Now()
		if err := prepareToImport(ctx, q, staged.rows); err != nil {
			return db.Import{}, err
		}
		if err := q.PlanImport(ctx, staged.importNo); err != nil {
			return db.Import{}, fmt.Errorf("plan the import: %w", err)
		}
		rows, err := q.CountImport(ctx, staged.importNo)
		if err != nil {
			return db.Import{}, err
		}
		counts := map[internationalv1.MemberImportChange_Kind]int32{}
		for _, row := range rows {
			counts[internationalv1.MemberImportChange_Kind(row.Kind)] = row.Rows
		}
		return q.InsertImport(ctx, db.InsertImportParams{
			ImportNo: staged.importNo, ID: id, Subject: authz.FromContext(ctx).Subject, Now: now, ExpireTime: now.Add(s.config.ImportLifetime),
			Added:     counts[internationalv1.MemberImportChange_ADD],
			Renewed:   counts[internationalv1.MemberImportChange_RENEW],
			Updated:   counts[internationalv1.MemberImportChange_UPDATE],
			Unchanged: counts[internationalv1.MemberImportChange_UNCHANGED],
			Rejected:  counts[internationalv1.MemberImportChange_REJECTED],
			Duplicate: counts[internationalv1.MemberImportChange_DUPLICATE],
		})
	})
}
