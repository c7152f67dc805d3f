package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// maxReport is the largest report that is read: more than any server returns of a mail of ours.
const maxReport = 16 << 20

func (c MailingsConfig) check() error {
	if c.BounceMaildir == "" {
		return nil
	}
	for _, name := range []string{"new", "cur"} {
		if info, err := os.Stat(filepath.Join(c.BounceMaildir, name)); err != nil || !info.IsDir() {
			return fmt.Errorf("the bounce maildir %s has no folder %s: make one with `maildirmake`, or let the mail server do it", c.BounceMaildir, name)
		}
	}
	return nil
}

// runBounces reads what comes back for mails until ctx ends.
func (s *Service) runBounces(ctx context.Context) error {
	if s.config.Mailings.BounceMaildir == "" {
		return nil
	}
	repeat(ctx, s.config.Mailings.BounceEvery, func() {
		if err := s.readMaildir(ctx, s.config.Mailings.BounceMaildir); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "the bounce maildir is not read", "error", err)
		}
	})
	return nil
}

// readMaildir reads all mail that is new. What is a report about a mail of ours is deleted when it is recorded; everything
// else goes where what was read lies, for people. What cannot be recorded now stays new. Several processes may read one
// maildir: a report that is read twice changes nothing the second time.
func (s *Service) readMaildir(ctx context.Context, dir string) error {
	found, err := os.ReadDir(filepath.Join(dir, "new"))
	if err != nil {
		return err
	}
	for _, file := range found {
		if file.IsDir() || file.Name()[0] == '.' {
			continue
		}
		path := filepath.Join(dir, "new", file.Name())
		ours, err := s.readReturned(ctx, path)
		switch {
		case err == nil && ours:
			err = os.Remove(path)
		case err == nil:
			err = os.Rename(path, filepath.Join(dir, "cur", file.Name()+":2,"))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process was faster
			return err
		}
	}
	return nil
}

// readReturned records what a file says, and answers whether it is a report about a mail of ours.
func (s *Service) readReturned(ctx context.Context, path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxReport))
	if err := errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	report, err := readReport(raw)
	if err != nil {
		return false, nil //nolint:nilerr // it is some other mail
	}
	id, found := report.mail()
	if !found {
		return false, nil
	}
	_, err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		return struct{}{}, takeBounce(ctx, tx, report, id, "", s.clock.Now())
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	s.publisher.Wake()
	s.moves.wake()
	return true, err
}
