package checkpoint

import (
	"strings"
	"testing"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// script drives a coordinator of one attempt by hand.
type script struct {
	t   *testing.T
	c   *Coordinator
	now time.Time
}

func newScript(t *testing.T, cfg Config, workers ...string) *script {
	cfg.Job, cfg.Graph = "j", &pb.JobGraph{}
	s := &script{t: t, c: New(cfg), now: time.UnixMilli(1_000_000)}
	s.step(Started{Epoch: 1, Workers: workers, Subtasks: len(workers)})
	return s
}

func (s *script) step(ev Event) []Action { return s.c.Step(ev, s.now) }

// until lets time pass to the next deadline and returns what is done there.
func (s *script) until() []Action {
	s.t.Helper()
	at, ok := s.c.Deadline()
	if !ok || at.Before(s.now) {
		s.t.Fatalf("deadline %v, %v, at %v", at, ok, s.now)
	}
	s.now = at
	return s.step(Tick{})
}

func find[A Action](acts []Action) (a A, ok bool) {
	for _, act := range acts {
		if a, ok = act.(A); ok {
			return a, true
		}
	}
	return a, false
}

func ackOf(worker string, id ID) Acked {
	return Acked{Worker: worker, Epoch: 1, Ack: &pb.CheckpointAck{CheckpointId: uint64(id)}}
}

// A checkpoint that is not complete in time is given up, wherever it is, and
// the next one takes its place; what comes late changes nothing.
func TestTimeoutAbortsAndTheNextCompletes(t *testing.T) {
	s := newScript(t, Config{Timeout: 10 * time.Second}, "w1", "w2")
	for round, late := range []struct {
		before, after []Event
		says          string
	}{
		{nil, []Event{ackOf("w1", 1), ackOf("w2", 1)}, "no answer from w1, w2"},
		{[]Event{ackOf("w1", 2)}, []Event{ackOf("w2", 2), Written{ID: 2}}, "no answer from w2"},
		{[]Event{ackOf("w1", 3), ackOf("w2", 3)}, []Event{Written{ID: 3}, Journaled{ID: 3}}, "its manifest was not written"},
	} {
		id := ID(round + 1)
		if s.c.phase == idle {
			s.until()
		}
		began := s.now
		for _, ev := range late.before {
			s.now = s.now.Add(time.Second)
			s.step(ev)
		}
		acts := s.until()
		a, ok := find[Abort](acts)
		if !ok || a.ID != id || a.Err.GetCode() != "checkpoint-timed-out" || !strings.Contains(a.Err.GetMessage(), late.says) || s.now.Sub(began) != 10*time.Second {
			t.Fatalf("round %d: %+v after %v", round, acts, s.now.Sub(began))
		}
		for _, ev := range late.after {
			if acts := s.step(ev); len(acts) > 0 {
				t.Errorf("round %d: %T came late and made %T", round, ev, acts[0])
			}
		}
	}
	s.until()
	s.step(ackOf("w1", 4))
	s.step(ackOf("w2", 4))
	s.step(Written{ID: 4})
	if c, ok := find[Complete](s.step(Journaled{ID: 4})); !ok || c.Done.GetCheckpointId() != 4 {
		t.Error("the checkpoint after three that timed out did not complete")
	}
}

// Savepoints and the last checkpoint may fail as often as they like; one that
// completes begins the count anew.
func TestToleratedFailures(t *testing.T) {
	s := newScript(t, Config{Tolerated: 2}, "w")
	failNext := func() ([]Action, bool) {
		for s.c.phase == idle {
			s.until()
		}
		id := s.c.pending.id
		acts := s.step(Declined{Worker: "w", Epoch: 1, ID: id, Err: &pb.Error{Message: "the bucket is away"}})
		_, gaveUp := find[GiveUp](acts)
		return acts, gaveUp
	}
	complete := func() {
		for s.c.phase == idle {
			s.until()
		}
		id := s.c.pending.id
		s.step(ackOf("w", id))
		s.step(Written{ID: id})
		s.step(Journaled{ID: id})
		s.step(Committed{ID: id})
	}
	for range 3 {
		for range 2 {
			if _, gaveUp := failNext(); gaveUp {
				t.Fatal("gave up although two failures are tolerated")
			}
		}
		complete()
	}
	for range 5 {
		s.step(Asked{Request{Token: 7, Savepoint: true}})
		if _, gaveUp := failNext(); gaveUp {
			t.Fatal("gave up for savepoints")
		}
	}
	failNext()
	failNext()
	acts, gaveUp := failNext()
	if !gaveUp {
		t.Fatal("did not give up after three failures")
	}
	g, _ := find[GiveUp](acts)
	if g.Err.GetCode() != "checkpoint-failures-exceeded" || !strings.Contains(g.Err.GetMessage(), "at most 2 may") || !strings.Contains(g.Err.GetMessage(), "the bucket is away") {
		t.Errorf("gave up with %v", g.Err)
	}
	// The attempt that follows begins at none.
	s.step(Stopped{})
	s.step(Started{Epoch: 1, Workers: []string{"w"}})
	if _, gaveUp := failNext(); gaveUp {
		t.Error("the next attempt gave up at its first failure")
	}
}

// The pause after a failure doubles up to a bound, and is short again after a
// checkpoint that completed.
func TestRetryGapGrows(t *testing.T) {
	s := newScript(t, Config{Interval: 100 * time.Millisecond}, "w")
	fail := func() time.Duration {
		id := s.c.pending.id
		s.step(Declined{Worker: "w", Epoch: 1, ID: id, Err: &pb.Error{}})
		from := s.now
		s.until()
		if s.c.phase != collecting || s.c.pending.id != id+1 {
			t.Fatalf("%s after a failure", s.c.phase)
		}
		return s.now.Sub(from)
	}
	for s.c.phase == idle {
		s.until()
	}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		if got := fail(); got != want {
			t.Errorf("%v after failure %d, want %v", got, i+1, want)
		}
	}
	id := s.c.pending.id
	for _, ev := range []Event{ackOf("w", id), Written{ID: id}, Journaled{ID: id}, Committed{ID: id}} {
		s.step(ev)
	}
	for s.c.phase == idle {
		s.until()
	}
	if got := fail(); got != time.Second {
		t.Errorf("%v after the first failure after a checkpoint, want a second", got)
	}
}
