package local

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// previewTokens go to international in one message.
const previewTokens = 5000

var errNoInternational = errors.New("no international service is configured")

// preview asks international what a plan would do to the standing. A sync does not depend on the answer: whatever goes
// wrong is logged, and the sync says that the standing is unavailable.
func (s *Service) preview(ctx context.Context, list string, sync db.Sync) db.SetStandingParams {
	ctx, cancel := context.WithTimeout(ctx, s.config.PreviewTimeout)
	defer cancel()
	standing, err := s.askStanding(ctx, list, sync)
	if err != nil {
		s.log.WarnContext(ctx, "a plan has no standing", "list", list, "error", err)
		return db.SetStandingParams{SyncNo: sync.SyncNo, State: sync.State, StandingUnavailable: true}
	}
	return standing
}

func (s *Service) askStanding(ctx context.Context, list string, sync db.Sync) (db.SetStandingParams, error) {
	none := db.SetStandingParams{}
	if s.standings == nil {
		return none, errNoInternational
	}
	stream, err := s.standings.PreviewStanding(ctx)
	if err != nil {
		return none, err
	}
	send := func(message *internationalv1.PreviewStandingRequest) error { return stream.Send(message) }
	err = send(&internationalv1.PreviewStandingRequest{Part: &internationalv1.PreviewStandingRequest_Header{
		Header: &internationalv1.PreviewHeader{
			Site:    "sites/" + s.config.Site,
			List:    list,
			Version: &internationalv1.ListVersion{List: list, Version: etag(sync.ListEpoch, sync.ListVersion)},
		},
	}})
	if err == nil {
		err = tokenBatches(ctx, db.New(s.pool), sync.SyncNo, previewTokens, func(added, removed [][]byte) error {
			return send(&internationalv1.PreviewStandingRequest{Part: &internationalv1.PreviewStandingRequest_Change{
				Change: &internationalv1.PreviewChange{Added: added, Removed: removed},
			}})
		})
	}
	// The end of the stream while sending means that the refusal waits to be received.
	if err != nil && !errors.Is(err, io.EOF) {
		return none, err
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return none, err
	}
	before, err := proto.Marshal(answer.GetBefore())
	if err != nil {
		return none, fmt.Errorf("store the standing: %w", err)
	}
	after, err := proto.Marshal(answer.GetAfter())
	if err != nil {
		return none, fmt.Errorf("store the standing: %w", err)
	}
	return db.SetStandingParams{
		SyncNo: sync.SyncNo, State: sync.State, StandingBefore: before, StandingAfter: after,
		CharterBefore: answer.GetCharterBefore(), CharterAfter: answer.GetCharterAfter(),
	}, nil
}
