package job

import (
	"math/rand/v2"
	"testing"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestFailureRate(t *testing.T) {
	r := &restarts{strategy: strategyOf(&pb.RestartStrategy{Kind: rate, MaxAttempts: 2, RateIntervalMs: 10_000, InitialDelayMs: 300})}
	began := time.UnixMilli(1_700_000_000_000)
	for i, c := range []struct {
		at    time.Duration
		again bool
	}{
		{0, true}, {9 * time.Second, true},
		{10 * time.Second, true}, // the first is a whole interval ago
		{19*time.Second - 1, false},
	} {
		// However long it ran: a rate knows no row.
		delay, again := r.next(time.Hour, began.Add(c.at))
		if again != c.again || again && delay != 300*time.Millisecond {
			t.Errorf("failure %d at %v: %v, %v, want %v", i+1, c.at, delay, again, c.again)
		}
	}
	const want = "restart strategy failure-rate: 3 failures within 10s, at most 2 are allowed"
	if got := r.spent(); got != want {
		t.Errorf("spent: %q, want %q", got, want)
	}
}

func TestSpentNamesStrategy(t *testing.T) {
	for want, s := range map[string]*pb.RestartStrategy{
		"the restart strategy is none: the first failure ends the job":                           {Kind: never},
		"restart strategy fixed-delay: failure 3 in a row, at most 2 restarts are allowed":       {Kind: fixed, MaxAttempts: 2},
		"restart strategy exponential-delay: failure 3 in a row, at most 2 restarts are allowed": {MaxAttempts: 2},
	} {
		r := &restarts{strategy: strategyOf(s)}
		again := true
		for again {
			_, again = r.next(0, time.Time{})
		}
		if got := r.spent(); got != want {
			t.Errorf("spent: %q, want %q", got, want)
		}
	}
}

// A job that gives up says which strategy, how often, and the last cause; a
// rate goes on counting under another leader.
func TestGivingUp(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	g := testGraph(1, false)
	g.Config.Restart = &pb.RestartStrategy{Kind: rate, MaxAttempts: 2, RateIntervalMs: 60_000}
	m, err := New(Config{Record: &pb.JobRecord{
		Submitted: &pb.JobSubmitted{JobId: "job", Graph: g}, Epoch: 2,
		Failures: []*pb.JobFailure{{Epoch: 1, AtMs: now.Add(-2 * time.Minute).UnixMilli()}, {Epoch: 2, AtMs: now.Add(-time.Second).UnixMilli()}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []State{Restarting, Failing} {
		m.phase = phaseRunning
		m.now = now.Add(time.Duration(i) * time.Second)
		m.fail(failure{err: &pb.Error{Code: "user-function-failed", Message: "no such column"}})
		if m.state != want {
			t.Fatalf("failure %d: the job is %s, want %s", i+1, m.state, want)
		}
	}
	got := m.ending.err
	if want := "restart strategy failure-rate: 3 failures within 1m0s, at most 2 are allowed; the last: no such column"; got.GetCode() != codeRestartsExhausted || got.GetMessage() != want {
		t.Errorf("cause %s: %q, want %q", got.GetCode(), got.GetMessage(), want)
	}
}

// Of any failures whatever, a rate lets no more restart in any interval than
// it allows, and refuses none that it allows; a row is ended only by a good run.
func TestRestartStrategiesOfSeeds(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := &pb.RestartStrategy{
			Kind:        []pb.RestartStrategy_Kind{exponential, fixed, rate, never}[r.IntN(4)],
			MaxAttempts: uint32(r.IntN(5)), InitialDelayMs: int64(1 + r.IntN(500)), MaxDelayMs: int64(1 + r.IntN(5000)),
			Multiplier: 1 + r.Float64()*3, ResetMs: int64(1 + r.IntN(20_000)), RateIntervalMs: int64(1 + r.IntN(20_000)),
		}
		under := &restarts{strategy: strategyOf(s)}
		now := time.UnixMilli(1_700_000_000_000)
		var allowed []time.Time
		row := 0
		var before time.Duration
		for range 50 {
			ran := time.Duration(r.IntN(30_000)) * time.Millisecond
			if r.IntN(2) == 0 {
				ran = 0
			}
			now = now.Add(ran + time.Duration(r.IntN(1000))*time.Millisecond)
			if ran.Milliseconds() >= s.ResetMs {
				row = 0
			}
			within := 0
			for _, at := range allowed {
				if now.Sub(at) < time.Duration(s.RateIntervalMs)*time.Millisecond {
					within++
				}
			}
			want := s.Kind != never && (s.MaxAttempts == 0 || s.Kind == rate && within < int(s.MaxAttempts) || s.Kind != rate && row < int(s.MaxAttempts))
			delay, again := under.next(ran, now)
			if again != want {
				t.Fatalf("seed %d: %v: restart %v after %d in the interval and %d in a row, want %v", seed, s, again, within, row, want)
			}
			if !again {
				continue
			}
			row++
			allowed = append(allowed, now)
			switch most := time.Duration(s.MaxDelayMs) * time.Millisecond; {
			case s.Kind != exponential && delay != time.Duration(s.InitialDelayMs)*time.Millisecond:
				t.Fatalf("seed %d: %v: delay %v", seed, s, delay)
			case s.Kind == exponential && (delay > most || row == 1 && delay != 0 || row > 1 && delay < before):
				t.Fatalf("seed %d: %v: delay %v in row %d, after %v", seed, s, delay, row, before)
			}
			before = delay
		}
	}
}
