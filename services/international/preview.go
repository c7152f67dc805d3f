package international

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// maxPreviewTokens bounds what one preview holds in memory: 10 million tokens are 340 MB.
const maxPreviewTokens = 10_000_000

// PreviewStanding says what a change of one list would do to the chapter's standing.
func (s *Service) PreviewStanding(stream grpc.ClientStreamingServer[internationalv1.PreviewStandingRequest, internationalv1.PreviewStandingResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	header := first.GetHeader()
	chapter, list, ok := listNames(header.GetList())
	if !ok {
		return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "header.list", "must be chapters/<chapter>/lists/<list>, in the first message")
	}
	if !s.limiter(header.GetSite()).Allow() {
		return rpc.Exhausted(errorv1.Reason_REASON_RATE_LIMITED, "too many previews for %s", header.GetSite()).
			With("retryAfterSeconds", 1).RetryAfter(time.Second)
	}
	change, err := receiveChange(stream)
	if err != nil {
		return err
	}
	answer, err := s.preview(stream.Context(), header, chapter, list, change)
	if err != nil {
		return err
	}
	return stream.SendAndClose(answer)
}

// plannedChange is what a list would gain and lose.
type plannedChange struct {
	added, removed [][]byte
}

func receiveChange(stream grpc.ClientStreamingServer[internationalv1.PreviewStandingRequest, internationalv1.PreviewStandingResponse]) (plannedChange, error) {
	var change plannedChange
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return change, checkTokens(slices.Concat(change.added, change.removed))
		}
		if err != nil {
			return change, err
		}
		change.added = append(change.added, message.GetChange().GetAdded()...)
		change.removed = append(change.removed, message.GetChange().GetRemoved()...)
		if len(change.added)+len(change.removed) > maxPreviewTokens {
			return change, rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE, "a preview takes at most %d tokens", maxPreviewTokens).With("limit", maxPreviewTokens)
		}
	}
}

func (s *Service) preview(ctx context.Context, header *internationalv1.PreviewHeader, chapter, list string, change plannedChange) (*internationalv1.PreviewStandingResponse, error) {
	site, ok := s.siteNamed(strings.TrimPrefix(header.GetSite(), "sites/"))
	if !ok {
		return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s", header.GetSite())
	}
	if err := s.knowChapter(ctx, chapter); err != nil {
		return nil, err
	}
	if err := s.awaitList(ctx, chapter, list, header.GetVersion().GetVersion()); err != nil {
		return nil, err
	}
	tokens := len(change.added) + len(change.removed)
	err := db.New(s.pool).InsertPreviewAudit(ctx, db.InsertPreviewAuditParams{
		Subject: caller(ctx), List: header.GetList(), Tokens: int32(tokens), Now: s.clock.Now(),
	})
	if err != nil {
		return nil, fmt.Errorf("record the preview: %w", err)
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.PreviewStandingResponse, error) {
		return predict(ctx, tx, site, chapter, list, change)
	})
}

// awaitList waits until the list version that a plan starts from is counted here.
func (s *Service) awaitList(ctx context.Context, chapter, list, version string) error {
	deadline := time.NewTimer(s.config.PreviewWait)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		row, err := db.New(s.pool).ListOf(ctx, db.ListOfParams{Chapter: chapter, ID: list})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if version == "" || etag(row.Epoch, row.Version) == version {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return rpc.Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE, "version %s of chapters/%s/lists/%s is not counted here yet", version, chapter, list)
		}
	}
}

// predict counts the people whom the change touches as they stand and as they would stand.
func predict(ctx context.Context, tx pgx.Tx, site site, chapter, list string, change plannedChange) (*internationalv1.PreviewStandingResponse, error) {
	q := db.New(tx)
	row, err := q.ReadStanding(ctx, chapter)
	if err != nil {
		return nil, err
	}
	answer := &internationalv1.PreviewStandingResponse{Before: viewStanding(chapter, row.Standing, row.Policy)}
	if row.SiteNo != site.no {
		return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no chapters/%s on sites/%s", chapter, site.name)
	}
	basis := int16(internationalv1.Basis_MAILING)
	if list == "members" {
		basis = int16(internationalv1.Basis_MEMBERSHIP)
	}
	moved, err := predictPeople(ctx, tx, chapter, list, basis, change)
	if err != nil {
		return nil, fmt.Errorf("predict the standing of %s: %w", chapter, err)
	}
	d := delta{}
	*d.on(basis) = moved
	predicted := apply(db.StandingsForUpdateRow{Standing: row.Standing, ChapterID: chapter, Policy: row.Policy}, d, row.Standing.UpdateTime)
	answer.After = viewStanding(chapter, predicted.after, row.Policy)
	answer.After.Etag, answer.After.UpdateTime = "", nil // it has not happened
	charter, err := q.ReadCharter(ctx, chapter)
	if errors.Is(err, pgx.ErrNoRows) {
		return answer, nil // it has not applied
	}
	answer.CharterBefore, answer.CharterAfter = charter.State, follows(charter, answer.GetAfter().GetEligible())
	return answer, err
}

// predictPeople returns what the change does to the people on the basis.
func predictPeople(ctx context.Context, tx pgx.Tx, chapter, list string, basis int16, change plannedChange) (people, error) {
	q := db.New(tx)
	lists, err := q.ListsOnBasis(ctx, db.ListsOnBasisParams{Chapter: chapter, Basis: basis})
	if err != nil {
		return people{}, err
	}
	args := db.PredictPeopleParams{Added: change.added, Removed: change.removed, OtherLists: []int64{}}
	for _, row := range lists {
		if row.ID == list {
			args.ListNo = row.ListNo
		} else {
			args.OtherLists = append(args.OtherLists, row.ListNo)
		}
	}
	// A plan for ten tokens would be a disaster for a million.
	if _, err := tx.Exec(ctx, "SET LOCAL plan_cache_mode = force_custom_plan"); err != nil {
		return people{}, err
	}
	row, err := q.PredictPeople(ctx, args)
	return people{row.Total, row.International}, err
}

func (s *Service) siteNamed(name string) (site, bool) {
	for _, site := range s.sites {
		if site.name == name {
			return site, true
		}
	}
	return site{}, false
}

// limiter is the site's allowance of previews.
func (s *Service) limiter(site string) *rate.Limiter {
	s.limitersMu.Lock()
	defer s.limitersMu.Unlock()
	if s.limiters[site] == nil {
		s.limiters[site] = rate.NewLimiter(rate.Limit(s.config.PreviewRate), s.config.PreviewBurst)
	}
	return s.limiters[site]
}
