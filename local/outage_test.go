package local_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/blob/faulty"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/sdk"
)

// paced is a source of n numbers, one every millisecond.
type paced struct {
	n     int64
	began time.Time
	read  atomic.Int64
}

func (p *paced) Bounded() bool { return true }
func (p *paced) Splits(context.Context, sdk.SourceEnv, []sdk.Split) ([]sdk.Split, error) {
	return []sdk.Split{{ID: "0"}}, nil
}

func (p *paced) Open(_ context.Context, env sdk.SourceEnv, _ sdk.Split, at []byte) (sdk.Reader[int64], error) {
	r := &pacedReader{p: p, wake: env.Wake}
	if len(at) > 0 {
		r.at = int64(binary.BigEndian.Uint64(at))
	}
	return r, nil
}

type pacedReader struct {
	p     *paced
	at    int64
	wake  func()
	alarm *time.Timer
}

func (r *pacedReader) Poll(b *sdk.Batch[int64], limit int) (sdk.ReadStatus, error) {
	there := min(time.Since(r.p.began).Milliseconds(), r.p.n)
	for n := 0; n < limit && r.at < there; n++ {
		b.Append(r.at, sdk.NoTime)
		r.at++
	}
	r.p.read.Store(r.at)
	switch {
	case r.at == r.p.n:
		return sdk.ReadEnded, nil
	case r.at == there:
		r.alarm = time.AfterFunc(10*time.Millisecond, r.wake)
		return sdk.ReadWaiting, nil
	}
	return sdk.ReadMore, nil
}

func (r *pacedReader) Position() []byte    { return binary.BigEndian.AppendUint64(nil, uint64(r.at)) }
func (r *pacedReader) StopAfter([]byte)    {}
func (r *pacedReader) Lag() (int64, int64) { return -1, -1 }
func (r *pacedReader) Close() error {
	if r.alarm != nil {
		r.alarm.Stop()
	}
	return nil
}

// tally is the n-th of its key.
type tally struct {
	Key, N int64
}

// book is a transactional sink: what is committed, once by its name.
type book struct {
	mu        sync.Mutex
	committed map[tally]int
	seen      map[string]bool
	commits   int
}

type page struct {
	Name string
	Rows []tally
}

func (b *book) Open(_ context.Context, env sdk.SinkEnv) (sdk.Writer[tally], error) {
	return &pageWriter{env: env}, nil
}

func (b *book) Recover(ctx context.Context, env sdk.SinkEnv, id uint64, handles []sdk.Handle) error {
	return b.Commit(ctx, env, id, handles)
}

func (b *book) Commit(_ context.Context, _ sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range handles {
		var p page
		if err := json.Unmarshal(h.Value, &p); err != nil {
			return err
		}
		if b.seen[p.Name] {
			continue
		}
		b.seen[p.Name] = true
		b.commits++
		for _, row := range p.Rows {
			b.committed[row]++
		}
	}
	return nil
}

func (b *book) state() (rows, commits int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.committed), b.commits
}

type pageWriter struct {
	env  sdk.SinkEnv
	rows []tally
}

func (w *pageWriter) Write(b *sdk.Batch[tally]) error {
	w.rows = append(w.rows, b.Values...)
	return nil
}
func (w *pageWriter) Flush() error { return nil }
func (w *pageWriter) Close() error { return nil }
func (w *pageWriter) Prepare(id uint64) (func(context.Context) ([]byte, error), error) {
	p := page{fmt.Sprint(w.env.UID, w.env.Epoch, id, w.env.Subtask), w.rows}
	w.rows = nil
	return func(context.Context) ([]byte, error) { return json.Marshal(p) }, nil
}

// While its bucket is away for a minute a job goes on, completes nothing and
// shows nothing; then the next checkpoint shows all of it, and nothing restarts.
func TestBucketOutage(t *testing.T) {
	for name, rule := range map[string]faulty.Rule{
		"refuses":               {Kind: faulty.Fail, Err: errors.New("503 slow down")},
		"loses every reply":     {Kind: faulty.LoseReply, Err: errors.New("connection reset")},
		"answers much too late": {Kind: faulty.Slow, Delay: 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { outage(t, rule) })
		})
	}
}

func outage(t *testing.T, rule faulty.Rule) {
	const (
		n      = 100_000 // milliseconds
		keys   = 6007    // so many changes that a checkpoint is an object
		begins = 10 * time.Second
		lasts  = time.Minute
	)
	bucket := faulty.New(blob.NewMemory(), 1)
	src := &paced{n: n, began: time.Now()}
	out := &book{committed: map[tally]int{}, seen: map[string]bool{}}
	var mu sync.Mutex
	var completed, failed []checkpoint.Stats
	var attempts []job.AttemptFailed
	ran := make(chan error, 1)
	go func() {
		ran <- local.Run(t.Context(), local.Config{
			Bucket: bucket,
			Graph: graphOf(func(env *sdk.Env) error {
				sdk.From(env, src).KeyBy(func(v int64) int64 { return v % keys }).
					Process("tally", func(op *sdk.KeyedOp[int64]) sdk.KeyedFn[int64, int64, tally] {
						count := op.Value[int64]("count")
						return sdk.KeyedFn[int64, int64, tally]{Each: func(c *sdk.KeyedContext[int64, tally], v int64) error {
							count.Set(count.Get() + 1)
							c.Emit(tally{v % keys, count.Get()})
							return nil
						}}
					}).To(out).Named("book")
				return nil
			}),
			Watch: func(o job.Observation) {
				mu.Lock()
				defer mu.Unlock()
				switch o := o.(type) {
				case job.AttemptFailed:
					attempts = append(attempts, o)
				case job.CheckpointEnded:
					if o.Stats.Status == checkpoint.Completed {
						completed = append(completed, o.Stats)
					} else {
						failed = append(failed, o.Stats)
					}
				}
			},
		})
	}()
	time.Sleep(begins)
	bucket.Set(rule)
	time.Sleep(100 * time.Millisecond) // for what is under way
	rowsBefore, commitsBefore := out.state()
	readBefore := src.read.Load()
	time.Sleep(lasts - 100*time.Millisecond)
	rows, commits := out.state()
	read := src.read.Load()
	bucket.Set()
	healed := time.Now()
	if rowsBefore == 0 {
		t.Fatal("nothing was committed before the outage")
	}
	if rule.Kind == faulty.Fail && (rows != rowsBefore || commits != commitsBefore) {
		t.Errorf("%d rows and %d commits became visible during the outage", rows-rowsBefore, commits-commitsBefore)
	}
	if got := read - readBefore; got < lasts.Milliseconds()*9/10 {
		t.Errorf("%d records were read during an outage of %v, want nearly all of %d", got, lasts, lasts.Milliseconds())
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if len(attempts) > 0 {
		t.Errorf("the job restarted: %v", attempts[0].Exception.Error)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(failed) == 0 && rule.Kind == faulty.Fail {
		t.Error("no checkpoint failed: there was no outage")
	}
	var back time.Duration
	for _, s := range completed {
		if s.Ended.After(healed) {
			back = s.Ended.Sub(healed)
			break
		}
	}
	t.Logf("%d checkpoints completed, %d failed; the first after healing was complete %v later", len(completed), len(failed), back)
	if limit := 6*time.Second + rule.Delay; back == 0 || back > limit {
		t.Errorf("the first checkpoint after healing was complete %v later, want at most %v", back, limit)
	}
	if rows, _ := out.state(); rows != n {
		t.Errorf("%d rows are committed, want %d", rows, n)
	}
	for row, times := range out.committed {
		if times != 1 {
			t.Fatalf("row %+v is committed %d times", row, times)
		}
	}
}
