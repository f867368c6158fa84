package worker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/sink"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// with changes the graph that build makes.
func with(build func() (*graph.Graph, error), change func(*graph.Graph)) func() (*graph.Graph, error) {
	return func() (*graph.Graph, error) {
		g, err := build()
		if err == nil {
			change(g)
		}
		return g, err
	}
}

func TestATaskThatHangsIsReported(t *testing.T) {
	for name, c := range map[string]struct {
		config *pb.JobConfig
		after  time.Duration
	}{
		"by default": {nil, time.Minute},
		"as set":     {&pb.JobConfig{HangTimeoutMs: 5000}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src, lock := &feed{n: 1000}, make(chan struct{})
				m := newMaster(t, with(job(t, src, newLedger()), func(g *graph.Graph) {
					g.Config = c.config
					g.Nodes[1].New = func() operator.Operator {
						return operator.NewMap(func(e event) event {
							if e.N == 500 {
								waitForALock(lock)
							}
							return e
						})
					}
				}), blob.NewMemory(), 1, 0)
				defer m.stop()
				src.raise(1000)
				began := time.Now()
				err := m.attempt(1)
				took, e := time.Since(began), m.failed
				if err == nil || e.GetCode() != "task-hung" || e.GetOperator() != "same" || !strings.Contains(e.GetMessage(), "feed -> same") {
					t.Fatalf("got %v, %v", err, e)
				}
				if !strings.Contains(e.GetStack(), "waitForALock") || !strings.Contains(e.GetStack(), "watch_test.go") {
					t.Errorf("the stack does not show where it hangs:\n%s", e.GetStack())
				}
				if strings.Contains(e.GetStack(), "obey") {
					t.Errorf("the stack has other goroutines too:\n%s", e.GetStack())
				}
				if took < c.after || took > c.after+c.after/4 {
					t.Errorf("reported after %v, want %v", took, c.after)
				}
				close(lock)
				m.cancel()
			})
		})
	}
}

func waitForALock(lock chan struct{}) { <-lock }

// A function that is slow is not taken for one that hangs: its batch takes
// minutes, but each call is another.
func TestSlowIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &feed{n: 400}
		m := newMaster(t, with(job(t, src, newLedger()), func(g *graph.Graph) {
			g.Nodes[1].New = func() operator.Operator { return operator.NewMap(callSomebody) }
		}), blob.NewMemory(), 1, 0)
		defer m.stop()
		src.raise(400)
		began := time.Now()
		if err := m.attempt(1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < testSplits*400*slowCall {
			t.Errorf("the job took %v", took)
		}
	})
}

// slowCall makes a batch of 50 take two and a half minutes.
const slowCall = 3 * time.Second

//go:noinline
func callSomebody(e event) event {
	time.Sleep(slowCall)
	return e
}

// slowSink makes its first Write wait for room, for an hour.
type slowSink struct{ *ledger }

type slowWriter struct {
	*ledgerWriter
	room chan struct{}
}

func (s slowSink) Open(_ context.Context, env sink.Env) (sink.Writer[counted], error) {
	w := &slowWriter{&ledgerWriter{env: env}, make(chan struct{})}
	time.AfterFunc(time.Hour, func() { close(w.room) })
	return w, nil
}

func (w *slowWriter) Write(b *batch.Batch[counted]) error {
	if err := w.env.Park(w.room); err != nil {
		return err
	}
	return w.ledgerWriter.Write(b)
}

// A sink that waits for room does not hang, nor do those that it holds back.
func TestWaitingForRoomIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, out := &feed{n: 20_000}, newLedger()
		m := newMaster(t, with(job(t, src, out), func(g *graph.Graph) {
			g.Nodes[3].New = func() operator.Operator { return operator.NewSink[counted](slowSink{out}) }
		}), blob.NewMemory(), 1, 0)
		defer m.stop()
		src.raise(20_000)
		began := time.Now()
		if err := m.attempt(1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Hour {
			t.Errorf("the job took %v, its sink waits an hour", took)
		}
		if got, want := len(out.committed()), len(wanted(20_000)); got != want {
			t.Errorf("%d rows, want %d", got, want)
		}
		waited := time.Duration(0)
		for len(m.metrics) > 0 {
			for _, task := range (<-m.metrics).GetTasks() {
				waited = max(waited, time.Duration(task.GetBackpressuredNs()))
			}
		}
		if waited == 0 {
			t.Error("the wait is not shown as back-pressure")
		}
	})
}

// Detection may be switched off.
func TestNoHangTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, lock := &feed{n: 100}, make(chan struct{})
		time.AfterFunc(24*time.Hour, func() { close(lock) })
		m := newMaster(t, with(job(t, src, newLedger()), func(g *graph.Graph) {
			g.Config = &pb.JobConfig{HangTimeoutMs: -1}
			g.Nodes[1].New = func() operator.Operator {
				return operator.NewMap(func(e event) event {
					waitForALock(lock)
					return e
				})
			}
		}), blob.NewMemory(), 1, 0)
		defer m.stop()
		src.raise(100)
		if err := m.attempt(1); err != nil {
			t.Fatal(err)
		}
	})
}
