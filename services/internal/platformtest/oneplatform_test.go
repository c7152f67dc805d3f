package platformtest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// one is `chapterhouse up` in this process.
type one struct {
	*federation

	dir     string
	natsURL string
	log     *recorder // at debug level
}

func onePlatform(t testing.TB, change ...func(*platform.Options)) *one {
	t.Helper()
	o := &one{dir: get(postgres.TempDir())(t), log: &recorder{}}
	options := platform.Options{
		Data: o.dir, HTTP: "127.0.0.1:0", Clock: clock.System{},
		Log: slog.New(slog.NewJSONHandler(o.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, one := range change {
		one(&options)
	}
	running := get(platform.Start(bounded(t, 2*patience), options))(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		must(t, running.Stop(ctx))
		must(t, errors.Join(postgres.Remove(o.dir), os.RemoveAll(o.dir)))
	})
	logged(t, o.log)
	o.federation = newFederation(t, running.Keys, options.Clock, running.Endpoints.REST, running.Endpoints.GRPC)
	o.natsURL = running.Endpoints.NATS
	return o
}
