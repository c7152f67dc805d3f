package regional

import (
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// latestPage is one page, on its way, of a list that begins with the greatest UUID.
type latestPage struct {
	pages          *rpc.Sealer
	method, filter string
	size           int32
	// before is nil on the first page.
	before *uuid.UUID
}

func (s *Service) openLatest(req proto.Message, size int32, token string) (latestPage, error) {
	n, err := rpc.PageSize(size)
	if err != nil {
		return latestPage{}, err
	}
	p := latestPage{pages: s.pages, method: string(req.ProtoReflect().Descriptor().FullName()), filter: rpc.Filter(req), size: int32(n)}
	cursor, err := s.pages.Open(p.method, p.filter, token)
	if err != nil || cursor == "" {
		return p, err
	}
	before, err := uuid.Parse(cursor) // sealed by us
	p.before = &before
	return p, err
}

// cutPage drops the row that was read to see whether there is more, and seals where the next page begins.
func cutPage[T any](p latestPage, rows []T, cursor func(T) uuid.UUID) ([]T, string) {
	if len(rows) <= int(p.size) {
		return rows, ""
	}
	rows = rows[:p.size]
	return rows, p.seal(cursor(rows[len(rows)-1]))
}

// seal makes the token of the page that begins after a row.
func (p latestPage) seal(cursor uuid.UUID) string {
	return p.pages.Seal(p.method, p.filter, cursor.String())
}
