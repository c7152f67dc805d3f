package regional

import (
	"google.golang.org/protobuf/proto"

	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// page is one page of a list on its way.
type page struct {
	sealer         *rpc.Sealer
	method, filter string
	size           int
	// after is where the page before ended, empty on the first.
	after string
}

func (s *Service) openPage(req proto.Message, size int32, token string) (page, error) {
	n, err := rpc.PageSize(size)
	if err != nil {
		return page{}, err
	}
	p := page{sealer: s.pages, method: string(req.ProtoReflect().Descriptor().FullName()), filter: rpc.Filter(req), size: n}
	p.after, err = s.pages.Open(p.method, p.filter, token)
	return p, err
}

// fetch is how many rows to read: one more than are shown, to see whether there is more.
func (p page) fetch() int32 { return int32(p.size) + 1 }

// cut drops the row that was read too many, and seals where the next page begins.
func cut[T any](p page, rows []T, cursor func(T) string) ([]T, string) {
	if len(rows) <= p.size {
		return rows, ""
	}
	rows = rows[:p.size]
	return rows, p.seal(cursor(rows[len(rows)-1]))
}

// seal makes the token of the page that begins after a cursor.
func (p page) seal(cursor string) string { return p.sealer.Seal(p.method, p.filter, cursor) }
