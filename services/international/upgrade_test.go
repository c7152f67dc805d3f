package international

import (
	"io/fs"
	"os"
	"testing"
	"testing/fstest"
	"time"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// Charters from before deadlines ran get theirs.
func TestChartersFromBeforeTheDeadlines(t *testing.T) {
	t.Parallel()
	old := fstest.MapFS{}
	files := os.DirFS("db/migrations")
	for _, name := range []string{"00001_house.sql", "00002_announcements.sql", "00003_concerns.sql", "00004_policy_terms.sql"} {
		sql, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		old[name] = &fstest.MapFile{Data: sql}
	}
	url := testkit.Database(t, postgres.Migration{Name: "bus", Files: bus.Migrations}, postgres.Migration{Name: "rpc", Files: rpc.Migrations},
		postgres.River(), postgres.Migration{Name: "international", Files: old})
	pool, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for _, sql := range []string{
		"INSERT INTO sites (name) VALUES ('main')",
		"INSERT INTO chapters (id, site_no, region, display_name, country_code, city) SELECT id, 1, 'world', '', '', '' FROM unnest(ARRAY['applied', 'claimed', 'falling', 'fine']) AS id",
		"INSERT INTO standings (chapter_no, policy_revision, epoch, update_time) SELECT chapter_no, 1, 1, '2026-05-01' FROM chapters",
		`INSERT INTO charters (chapter_no, chapter_id, state, reviewer, apply_time, cure_by_time, epoch, version, create_time, update_time)
			SELECT c.chapter_no, c.id, s.state, s.reviewer, '2026-05-01', s.cure_by, 1, 1, '2026-05-01', '2026-05-01' FROM chapters c
			JOIN (VALUES ('applied', 'APPLIED', '', NULL::timestamptz), ('claimed', 'IN_REVIEW', 'ana', NULL), ('falling', 'AT_RISK', '', '2026-07-01'),
				('fine', 'CHARTERED', '', NULL)) AS s (id, state, reviewer, cure_by) USING (id)`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if err := postgres.Migrate(t.Context(), url, Migrations()...); err != nil {
		t.Fatal(err)
	}
	w := setupOn(t, pool)
	w.passes()
	w.is("falling", internationalv1.Charter_AT_RISK)
	if charter := w.is("applied", internationalv1.Charter_APPLIED); !charter.GetOverdue() || charter.GetWaitingFor() != internationalv1.Charter_DECISION {
		t.Errorf("applied for a month ago: %v", charter)
	}
	if charter := w.is("claimed", internationalv1.Charter_IN_REVIEW); charter.GetReviewer() != "ana" || charter.GetClaimExpireTime() == nil {
		t.Errorf("claimed before: %v", charter)
	}
	w.clock.Advance(31 * day)
	w.passes()
	if charter := w.is("falling", internationalv1.Charter_AT_RISK); charter.GetWaitingFor() != internationalv1.Charter_GRACE_OVER {
		t.Errorf("after its time: %v", charter)
	}
	w.is("fine", internationalv1.Charter_CHARTERED)
}

// River itself sees to deadlines: in one process, in two at once, and in one that takes over from another.
func TestRiverSeesToDeadlines(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.DeadlinesEvery = time.Second })
	w.amend("grace_days = 10, grace_end = 'SUSPEND'")
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	w.resigns("c")
	stop := w.startJobs()
	second := w.startJobs()
	w.clock.Advance(10 * day)
	w.eventually("paris", internationalv1.Charter_SUSPENDED)
	stop()
	second()

	_, err = w.charter.ReinstateCharter(t.Context(), &internationalv1.ReinstateCharterRequest{Name: "charters/paris"})
	w.must(err)
	w.clock.Advance(10 * day)
	stop = w.startJobs()
	w.eventually("paris", internationalv1.Charter_SUSPENDED)
	stop()
	w.verbs("paris", "apply", "approve", "eligibilityLost", "graceEnded", "reinstate", "graceEnded")
}
