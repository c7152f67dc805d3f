package rpc

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// Answered reads into answer what an earlier call with the request id in ctx was answered, and says whether there was
// one. It spares a handler the work before its InTx, which looks again.
func Answered(ctx context.Context, pool *pgxpool.Pool, answer proto.Message) (bool, error) {
	key, _ := ctx.Value(requestKeyKey{}).(*requestKey)
	if key == nil {
		return false, nil
	}
	return postgres.InTx(ctx, pool, func(tx pgx.Tx) (bool, error) {
		stored, found, err := key.lookUp(ctx, tx)
		if err != nil || !found {
			return false, err
		}
		_ = grpc.SetHeader(ctx, metadata.Pairs(ReplayedHeader, "true")) // fails when the caller is gone
		return true, proto.Unmarshal(stored, answer)
	})
}
