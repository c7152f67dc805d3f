package international

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// site is one deployment of the local service, and the key by which its addresses are matched.
type site struct {
	no   int16
	name string
	key  address.SiteKey
}

// openSites makes the configured sites known. A site that is new gets the tokens of every verified address before
// anything of it is counted; the table's lock keeps two replicas from adding it twice.
func (s *Service) openSites(ctx context.Context, master address.MasterKey) ([]site, error) {
	return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) ([]site, error) {
		q := db.New(tx)
		if err := q.LockSites(ctx); err != nil {
			return nil, err
		}
		known, err := q.Sites(ctx)
		if err != nil {
			return nil, err
		}
		numbers := map[string]int16{}
		for _, row := range known {
			numbers[row.Name] = row.SiteNo
		}
		var open []site
		for _, name := range s.config.Sites {
			current := site{no: numbers[name], name: name, key: master.SiteKey(name)}
			if current.no == 0 {
				if current.no, err = addSite(ctx, q, current); err != nil {
					return nil, fmt.Errorf("add site %s: %w", name, err)
				}
			}
			open = append(open, current)
		}
		return open, nil
	})
}

func addSite(ctx context.Context, q *db.Queries, added site) (int16, error) {
	no, err := q.InsertSite(ctx, added.name)
	if err != nil {
		return 0, err
	}
	for after := int64(0); ; {
		page, err := q.VerifiedAddressesAfter(ctx, db.VerifiedAddressesAfterParams{After: after, Size: stepTokens})
		if err != nil || len(page) == 0 {
			return no, err
		}
		args := db.InsertSiteTokensParams{SiteNo: no}
		for _, row := range page {
			token := added.key.Token(row.Address)
			args.Tokens = append(args.Tokens, token[:])
			args.MemberNos = append(args.MemberNos, row.MemberNo)
			args.AddressNos = append(args.AddressNos, row.AddressNo)
			after = row.AddressNo
		}
		if err := q.InsertSiteTokens(ctx, args); err != nil {
			return 0, err
		}
	}
}

// knownTokens are what each site knows addresses by.
type knownTokens db.InsertAddressTokensParams

func (s *Service) tokens(addresses ...db.Address) knownTokens {
	var known knownTokens
	for _, row := range addresses {
		for _, site := range s.sites {
			token := site.key.Token(row.Address)
			known.Tokens = append(known.Tokens, token[:])
			known.SiteNos = append(known.SiteNos, site.no)
			known.AddressNos = append(known.AddressNos, row.AddressNo)
		}
	}
	return known
}

// insert records them as the member's.
func (k knownTokens) insert(write *pipeline, memberNo int64) {
	write.exec(db.InsertAddressTokens, k.Tokens, k.SiteNos, memberNo, k.AddressNos)
}

// Ancestors lists the regions above a chapter or region, nearest first, for the authoriser. What is not known here has none.
func (s *Service) Ancestors(ctx context.Context, scope string) ([]string, error) {
	q := db.New(s.pool)
	region := idOf(scope)
	if collection(scope) == "chapters" {
		if err := s.knowChapter(ctx, region); err != nil {
			return nil, ignoreUnknown(err)
		}
		chapter, err := q.ReadChapter(ctx, region)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		region = chapter.Region
	}
	ids, err := q.RegionAncestors(ctx, region)
	above := make([]string, 0, len(ids))
	for _, id := range ids {
		if name := "regions/" + id; name != scope {
			above = append(above, name)
		}
	}
	return above, err
}
