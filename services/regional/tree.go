package regional

import (
	"context"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// GetRegionTree reads a region and all below it with one query.
func (s *Service) GetRegionTree(ctx context.Context, req *regionalv1.GetRegionTreeRequest) (*regionalv1.RegionTree, error) {
	if req.GetAsOfTime() != nil {
		at, err := s.asOf(req.GetAsOfTime())
		if err != nil {
			return nil, err
		}
		return s.treeAt(ctx, req.GetName(), at)
	}
	id := regionID(req.GetName())
	rows, err := db.New(s.pool).RegionTree(ctx, id)
	if err != nil {
		return nil, err
	}
	tree := buildTree(rows, id)
	if tree == nil {
		_, err := findRegion(ctx, db.New(s.pool), req.GetName())
		return nil, orElse(err, notFound(req.GetName()))
	}
	return tree, nil
}

// buildTree joins the rows below a root to a tree and sums what lies below each node; nil when the root is not
// among them. Rows come deepest first, so that a node is complete when its parent is met, and by id within a depth.
func buildTree(rows []db.RegionTreeRow, root string) *regionalv1.RegionTree {
	children := map[string][]*regionalv1.RegionTree{}
	for _, row := range rows {
		node := &regionalv1.RegionTree{
			Region:            toProto(row.Region),
			Chapters:          row.Chapters,
			TotalChapters:     row.Chapters,
			EligibleChapters:  row.Eligible,
			CharteredChapters: row.Chartered,
			Children:          children[row.Region.ID],
		}
		for _, child := range node.GetChildren() {
			node.TotalChapters += child.GetTotalChapters()
			node.EligibleChapters += child.GetEligibleChapters()
			node.CharteredChapters += child.GetCharteredChapters()
		}
		if row.Region.ID == root {
			return node
		}
		if row.Region.ParentID != nil {
			children[*row.Region.ParentID] = append(children[*row.Region.ParentID], node)
		}
	}
	return nil
}
