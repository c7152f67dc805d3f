package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/source"
	"github.com/chapterhouse/chapterhouse/services/internal/upload"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

const (
	// rowsPerPage packs so many rows of a source, or changes of a plan, into one row of the database.
	rowsPerPage = 1000
	// pagesPerStep bounds what is in memory, and how long one COPY holds a connection.
	pagesPerStep = 8
	// cleanUpTimeout bounds the removal of what a failed upload left.
	cleanUpTimeout = 5 * time.Second
)

// staged is a source that lies in sync_rows.
type staged struct {
	syncNo int64
	// Rows by their fate so far: valid ones are compared with the list.
	valid, rejected, duplicate int
	// crowded says that some of the valid rows may repeat others.
	crowded bool
	// pages is how many rows of sync_rows hold it.
	pages  int32
	format *localv1.SourceFormat
	sum    []byte
}

// stage writes a source into sync_rows, as it arrives and in short steps: while the network is waited for, neither a
// transaction is open nor a connection taken.
func (s *Service) stage(ctx context.Context, header *localv1.CreateSyncHeader, recv func() ([]byte, error)) (staged, error) {
	limits := upload.Limits{Idle: s.config.UploadIdle, Whole: s.config.UploadLimit, Bytes: s.config.MaxUploadBytes, Rows: s.config.MaxUploadRows}
	ctx, cancel := limits.WithLimit(ctx)
	defer cancel()
	syncNo, err := db.New(s.pool).NextSyncNo(ctx)
	if err != nil {
		return staged{}, fmt.Errorf("number the sync: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	steps := make(chan []db.CopySyncRowsParams)
	st := &stager{
		siteKey: s.siteKey, now: s.clock.Now(), seen: map[[seenBytes]byte]int32{}, room: s.config.RowsInMemory,
		staged: staged{syncNo: syncNo},
		step:   func(pages []db.CopySyncRowsParams) error { return hand(ctx, steps, pages) },
	}
	group.Go(func() error {
		defer close(steps)
		return st.read(header, upload.NewReader(ctx, recv, limits), limits.Rows)
	})
	group.Go(func() error {
		for pages := range steps {
			if _, err := db.New(s.pool).CopySyncRows(ctx, pages); err != nil {
				return fmt.Errorf("stage rows: %w", err)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		s.dropRows(ctx, syncNo)
		return staged{}, limits.Refusal(err)
	}
	return st.staged, nil
}

func hand(ctx context.Context, steps chan<- []db.CopySyncRowsParams, pages []db.CopySyncRowsParams) error {
	select {
	case steps <- pages:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dropRows removes a source that will not be planned. What it cannot remove now, the clean-up job does.
func (s *Service) dropRows(ctx context.Context, syncNo int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	if _, err := db.New(s.pool).DeleteSyncRows(ctx, syncNo); err != nil {
		s.log.WarnContext(ctx, "an upload's rows stay for the clean-up", "error", err)
	}
}

// seenBytes of a token's hash tell addresses apart: among 5 million rows two share them with a chance of 4e-26.
const seenBytes = 16

// stager sorts rows into pages.
type stager struct {
	staged

	siteKey address.SiteKey
	now     time.Time
	// seen has the line on which each address came first, of the first so many addresses: memory does not grow with the
	// source. Repetitions of the others are found by the database.
	seen map[[seenBytes]byte]int32
	room int
	step func([]db.CopySyncRowsParams) error

	rows, rejections, duplicates pageOf
	full                         []db.CopySyncRowsParams
}

// pageOf is a page that is being filled. Its tokens lie in one piece of memory.
type pageOf struct {
	page   db.CopySyncRowsParams
	tokens []byte
}

// read stages all rows of an upload.
func (st *stager) read(header *localv1.CreateSyncHeader, arriving *upload.Reader, maxRows int) error {
	reader, err := source.New(arriving, header.GetContentType(), source.Options{
		MapAddress: header.GetMapAddress(), MapDisplayName: header.GetMapDisplayName(), MaxRows: maxRows,
	})
	if err != nil {
		return err
	}
	for {
		row, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := st.add(row); err != nil {
			return err
		}
	}
	if st.valid == 0 && header.GetMode() == localv1.Sync_REPLACE {
		return rpc.Invalid(errorv1.Reason_REASON_SOURCE_UNREADABLE, "", "none of its %d rows has a usable address", st.rejected)
	}
	st.format = viewFormat(reader.Detected())
	if st.sum, err = arriving.Sum(); err != nil {
		return err
	}
	return st.finish()
}

func (st *stager) add(row source.Row) error {
	line := int32(row.Line)
	if row.Rejected != nil {
		st.rejected++
		p := &st.rejections
		p.page.Codes = append(p.page.Codes, row.Rejected.Code)
		p.page.Texts = append(p.page.Texts, row.Rejected.Text)
		return st.fill(p, kindRejected, line)
	}
	token := st.siteKey.Token(row.Address)
	key := [seenBytes]byte(token[2:])
	p, kind := &st.rows, int16(0)
	if first, again := st.seen[key]; again {
		st.duplicate++
		p, kind = &st.duplicates, kindDuplicate
		p.page.FirstLines = append(p.page.FirstLines, first)
	} else {
		st.valid++
		st.remember(key, line)
	}
	p.addToken(token)
	p.page.Addresses = append(p.page.Addresses, row.Address)
	p.page.DisplayNames = append(p.page.DisplayNames, row.DisplayName)
	return st.fill(p, kind, line)
}

func (st *stager) remember(key [seenBytes]byte, line int32) {
	if len(st.seen) < st.room {
		st.seen[key] = line
	} else {
		st.crowded = true
	}
}

func (p *pageOf) addToken(token address.Token) {
	if p.tokens == nil {
		p.tokens = make([]byte, 0, rowsPerPage*address.TokenSize)
	}
	start := len(p.tokens)
	p.tokens = append(p.tokens, token[:]...)
	p.page.Tokens = append(p.page.Tokens, p.tokens[start:len(p.tokens):len(p.tokens)])
}

// fill completes a row of a page, and the page when it is full.
func (st *stager) fill(p *pageOf, kind int16, line int32) error {
	p.page.Kind = kind
	p.page.Lines = append(p.page.Lines, line)
	if len(p.page.Lines) < rowsPerPage {
		return nil
	}
	st.close(p)
	if len(st.full) < pagesPerStep {
		return nil
	}
	return st.flush()
}

// close puts a page among those that are written next.
func (st *stager) close(p *pageOf) {
	if len(p.page.Lines) == 0 {
		return
	}
	p.page.SyncNo, p.page.Page, p.page.UploadTime = st.syncNo, st.pages, st.now
	st.pages++
	st.full = append(st.full, p.page)
	*p = pageOf{}
}

func (st *stager) flush() error {
	pages := st.full
	st.full = nil
	return st.step(pages)
}

func (st *stager) finish() error {
	for _, p := range []*pageOf{&st.rows, &st.rejections, &st.duplicates} {
		st.close(p)
	}
	if len(st.full) == 0 {
		return nil
	}
	return st.flush()
}

// mediaTypes are those of the source's formats.
var mediaTypes = map[source.Format]string{
	source.CSV:       "text/csv",
	source.Mailboxes: "text/csv",
	source.NDJSON:    "application/x-ndjson",
	source.JSON:      "application/json",
}

// encodings as the API writes them.
var encodings = map[string]string{"utf-8": "UTF-8", "utf-16le": "UTF-16LE", "utf-16be": "UTF-16BE", "windows-1252": "windows-1252"}

func viewFormat(d source.Detected) *localv1.SourceFormat {
	format := &localv1.SourceFormat{
		MediaType: mediaTypes[d.Format], Encoding: encodings[d.Encoding], Delimiter: d.Delimiter, Header: d.Header,
		TitleLines: int32(d.TitleLines),
	}
	if d.AddressColumn.Number > 0 {
		format.AddressColumn = columnName(d.AddressColumn)
	}
	for _, column := range d.NameColumns {
		format.NameColumns = append(format.NameColumns, columnName(column))
	}
	states := make([]string, len(d.StateColumns))
	for i, column := range d.StateColumns {
		states[i] = columnName(column)
	}
	format.StateColumn = strings.Join(states, ", ")
	return format
}

// columnName is the column's header, or its number where there is none.
func columnName(c source.Column) string {
	if c.Header != "" {
		return c.Header
	}
	return fmt.Sprint(c.Number)
}
