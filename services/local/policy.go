package local

import (
	"context"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// policyTopic keeps the charter policy, so that what it asks of a chapter is known while international is away.
func (s *Service) policyTopic() bus.Topic {
	return wholeTopic("policy", func(ctx context.Context, tx pgx.Tx, given *eventv1.PolicyChanged) error {
		content, err := proto.Marshal(given)
		if err != nil {
			return err
		}
		return db.New(tx).PutPolicy(ctx, db.PutPolicyParams{Revision: given.GetInForce().GetRevision(), Content: content})
	})
}
