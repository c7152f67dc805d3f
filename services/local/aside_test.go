package local

import (
	"testing"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// aside asks for an answer within so many seconds, done or not.
func (u request) aside(seconds int32) request {
	u.header.RespondAsync, u.header.WaitSeconds = true, seconds
	return u
}

func (w *world) awaitSync(name string, state localv1.Sync_State) *localv1.Sync {
	w.t.Helper()
	var sync *localv1.Sync
	testkit.Eventually(w.t, patience, func() (bool, string) {
		var err error
		sync, err = w.syncs.GetSync(w.t.Context(), &localv1.GetSyncRequest{Name: name})
		w.must(err)
		return sync.GetState() == state, sync.String()
	})
	return sync
}

// holdPreviews keeps plans from being finished until release is called; each that is held arrives.
func (w *world) holdPreviews() (arrived <-chan struct{}, release func()) {
	held, arrivals := make(chan struct{}), make(chan struct{}, 10)
	w.international.set(func() {
		w.international.entered = func() {
			arrivals <- struct{}{}
			<-held
		}
	})
	return arrivals, func() {
		w.international.set(func() { w.international.entered = nil })
		close(held)
	}
}

func TestAnswerBeforeThePlanIsDone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	arrived, release := w.holdPreviews()
	call := replace("crm", people(0, 10)).applied().aside(0).keyed("once")
	begun := w.sync(call)
	if begun.GetState() != localv1.Sync_PLANNING || begun.GetName() == "" {
		t.Fatalf("the answer is %v", begun)
	}
	_, err := call.send(t.Context(), w.syncs)
	refuses(t, err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE)
	<-arrived // what is made is a plan, and is not shown as one
	w.awaitSync(begun.GetName(), localv1.Sync_PLANNING)
	release()
	done := w.awaitSync(begun.GetName(), localv1.Sync_APPLIED)
	w.expect(done, localv1.Sync_APPLIED, "add 10")
	w.agrees(members)
	testkit.Eventually(t, patience, func() (bool, string) {
		again, err := call.send(t.Context(), w.syncs)
		return err == nil && again.GetName() == begun.GetName() && again.GetState() == localv1.Sync_APPLIED, "the same request again"
	})
	if got := w.sync(replace("crm", people(0, 11)).applied().aside(30)); got.GetState() != localv1.Sync_APPLIED {
		t.Errorf("what is done in time is answered as ever, not %v", got)
	}
}

func TestPlanAsideIsStopped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 10)).applied())
	arrived, release := w.holdPreviews()
	blocked := w.sync(replace("crm", people(9, 1)).applied().aside(0))
	stale := w.sync(replace("crm", people(0, 12)).applied().aside(0))
	<-arrived
	<-arrived
	w.add(members, "ada@example.org")
	release()
	if got := w.awaitSync(blocked.GetName(), localv1.Sync_BLOCKED); got.GetConfirmRemovals() != 9 || got.GetFailure() != nil {
		t.Errorf("stopped by the guard it is %v", got)
	}
	if got := w.awaitSync(stale.GetName(), localv1.Sync_FAILED); got.GetFailure().GetReason() != "PLAN_STALE" || got.GetFailure().GetText() == "" {
		t.Errorf("stale it is %v", got)
	}
}

// A process that ends while it plans takes the upload with it.
func TestPlanThatWasLost(t *testing.T) {
	t.Parallel()
	w := setup(t)
	arrived, release := w.holdPreviews()
	begun := w.sync(replace("crm", people(0, 10)).aside(0))
	<-arrived
	w.clock.Advance(w.service.config.PlanLimit + 2*time.Minute)
	w.must(w.service.cleanUp(t.Context()))
	lost := w.awaitSync(begun.GetName(), localv1.Sync_FAILED)
	if lost.GetFailure().GetReason() != "UPLOAD_INTERRUPTED" {
		t.Errorf("lost it is %v", lost)
	}
	release()
	w.service.aside.Wait()
	w.awaitSync(begun.GetName(), localv1.Sync_FAILED) // what comes too late changes nothing
}
