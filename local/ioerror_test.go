package local_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"strings"
	"sync"
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

// tap is a source of the numbers below n, one every millisecond since it was
// first opened, that can be drained.
type tap struct {
	n     int64
	began time.Time
}

func (*tap) Bounded() bool { return false }
func (*tap) Splits(context.Context, sdk.SourceEnv, []sdk.Split) ([]sdk.Split, error) {
	return []sdk.Split{{ID: "0"}}, nil
}

func (s *tap) Open(_ context.Context, env sdk.SourceEnv, _ sdk.Split, at []byte) (sdk.Reader[int64], error) {
	r := &tapReader{tap: s, wake: env.Wake, end: s.n}
	if len(at) > 0 {
		r.at = int64(binary.BigEndian.Uint64(at))
	}
	return r, nil
}

type tapReader struct {
	*tap
	at, end int64
	wake    func()
	alarm   *time.Timer
}

func (r *tapReader) Poll(b *sdk.Batch[int64], limit int) (sdk.ReadStatus, error) {
	there := min(time.Since(r.began).Milliseconds(), r.end)
	for n := 0; n < limit && r.at < there; n++ {
		b.Append(r.at, sdk.NoTime)
		r.at++
	}
	switch {
	case r.at >= r.end:
		return sdk.ReadEnded, nil
	case r.at >= there:
		r.alarm = time.AfterFunc(10*time.Millisecond, r.wake)
		return sdk.ReadWaiting, nil
	}
	return sdk.ReadMore, nil
}

func (r *tapReader) Position() []byte    { return binary.BigEndian.AppendUint64(nil, uint64(r.at)) }
func (r *tapReader) StopAfter(at []byte) { r.end = max(r.at, int64(binary.BigEndian.Uint64(at))) }
func (r *tapReader) Lag() (int64, int64) { return -1, -1 }
func (r *tapReader) Close() error {
	if r.alarm != nil {
		r.alarm.Stop()
	}
	return nil
}

// store is a transactional sink in a bucket: Prepare writes a page to a place
// that nobody reads, Commit moves it to one that is read.
type store struct {
	bucket blob.Bucket
	mu     sync.Mutex
	fences map[string]uint64 // by lineage
	runs   int
}

// anew is what a job of a process of its own begins with after one that failed:
// there is no journal to know its epochs from.
func (s *store) anew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.fences)
	s.runs++
}

func (s *store) Open(_ context.Context, env sdk.SinkEnv) (sdk.Writer[tally], error) {
	return &storeWriter{store: s, env: env}, nil
}

func (s *store) Recover(ctx context.Context, env sdk.SinkEnv, id uint64, handles []sdk.Handle) error {
	s.mu.Lock()
	s.fences[env.Lineage] = max(env.Epoch, s.fences[env.Lineage])
	s.mu.Unlock()
	return s.Commit(ctx, env, id, handles)
}

func (s *store) Commit(ctx context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	s.mu.Lock()
	fence := s.fences[env.Lineage]
	s.mu.Unlock()
	if env.Epoch < fence {
		return sdk.Stale(fmt.Errorf("epoch %d of %s comes after epoch %d", env.Epoch, env.Lineage, fence))
	}
	for _, h := range handles {
		data, _, err := s.bucket.Get(ctx, "sink/staged/"+string(h.Value), 0, -1)
		if err != nil {
			return err
		}
		if len(data) < 4 || crc32.ChecksumIEEE(data[4:]) != binary.BigEndian.Uint32(data) {
			return fmt.Errorf("sink/staged/%s: its checksum is another", h.Value)
		}
		if err := s.bucket.Put(ctx, "sink/shown/"+string(h.Value), bytes.NewReader(data), int64(len(data))); err != nil {
			return err
		}
	}
	return nil
}

type storeWriter struct {
	*store
	env  sdk.SinkEnv
	rows []tally
}

func (w *storeWriter) Write(b *sdk.Batch[tally]) error {
	w.rows = append(w.rows, b.Values...)
	return nil
}
func (w *storeWriter) Flush() error { return nil }
func (w *storeWriter) Close() error { return nil }
func (w *storeWriter) Prepare(id uint64) (func(context.Context) ([]byte, error), error) {
	name := fmt.Sprintf("%s-%d-%d-%d-%d", w.env.Lineage, w.runs, w.env.Epoch, id, w.env.Subtask)
	rows := w.rows
	w.rows = nil
	return func(ctx context.Context) ([]byte, error) {
		if len(rows) == 0 {
			return nil, nil
		}
		data, err := json.Marshal(rows)
		if err != nil {
			return nil, err
		}
		data = append(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(data)), data...)
		return []byte(name), w.bucket.Put(ctx, "sink/staged/"+name, bytes.NewReader(data), int64(len(data)))
	}, nil
}

// shown are the rows that a reader of the sink sees, with how often.
func shown(t *testing.T, b blob.Bucket) map[tally]int {
	rows := map[tally]int{}
	err := b.List(t.Context(), "sink/shown/", func(i blob.Info) error {
		data, _, err := b.Get(t.Context(), i.Key, 0, -1)
		if err != nil {
			return err
		}
		var page []tally
		if err := json.Unmarshal(data[4:], &page); err != nil {
			return fmt.Errorf("%s: %w", i.Key, err)
		}
		for _, row := range page {
			rows[row]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// The input of a life.
const (
	lifeRows = 600 // and milliseconds
	lifeKeys = 100
)

// life is a job from its first record to its last: it is drained in the
// middle and goes on from its savepoint, fails twice on its way, compacts,
// and deletes checkpoints that retention gives up. Where it stops with an
// error, the bucket is mended and the job started from what it left.
type life struct {
	bucket *faulty.Bucket
	src    *tap
	out    *store
	log    bytes.Buffer
	failed map[int64]bool
	latest string // manifest of what completed last
	stops  []error
}

func (l *life) graph(env *sdk.Env) error {
	env.CheckpointEvery(500 * time.Millisecond)
	env.RetainCheckpoints(1)
	env.Restart(sdk.RestartAfter(100*time.Millisecond, 3))
	sdk.From(env, l.src).Map(func(v int64) int64 {
		if (v == lifeRows/4 || v == lifeRows*3/4) && !l.failed[v] {
			l.failed[v] = true
			panic("on purpose")
		}
		return v
	}).Named("fails").KeyBy(func(v int64) int64 { return v % lifeKeys }).
		Process("tally", func(op *sdk.KeyedOp[int64]) sdk.KeyedFn[int64, int64, tally] {
			// Large enough for checkpoints to be objects.
			count, pad := op.Value[int64]("count"), op.Value[string]("pad")
			return sdk.KeyedFn[int64, int64, tally]{Each: func(c *sdk.KeyedContext[int64, tally], v int64) error {
				n := count.Get() + 1
				count.Set(n)
				pad.Set(strings.Repeat(string(rune('a'+n)), 1000))
				c.Emit(tally{v % lifeKeys, n})
				return nil
			}}
		}).To(l.out).Named("store")
	return nil
}

func (l *life) live(t *testing.T) {
	l.src = &tap{n: lifeRows, began: time.Now()}
	l.out = &store{bucket: l.bucket, fences: map[string]uint64{}}
	l.failed = map[int64]bool{}
	for run, over := 1, false; !over; run++ {
		if run > 8 {
			t.Fatalf("the job does not come to its end: %v", l.stops)
		}
		drain := make(chan struct{})
		if run == 1 {
			time.AfterFunc(lifeRows/2*time.Millisecond, func() { close(drain) })
		}
		// What is tried for ever succeeds once the bucket is mended.
		mended := time.AfterFunc(10*time.Minute, l.bucket.Heal)
		savepoint := false
		err := local.Run(t.Context(), local.Config{
			Bucket: l.bucket, JobID: fmt.Sprint("job-", run), Restore: l.latest, Drain: drain,
			Graph: graphOf(l.graph), Log: slog.New(slog.NewTextHandler(&l.log, nil)),
			Watch: func(o job.Observation) {
				if c, ok := o.(job.CheckpointEnded); ok && c.Stats.Status == checkpoint.Completed {
					l.latest, savepoint = c.Stats.Manifest, c.Stats.Savepoint
				}
			},
		})
		mended.Stop()
		over = err == nil && !savepoint
		if err != nil {
			l.stops = append(l.stops, err)
			l.out.anew()
			l.bucket.Heal()
		}
	}
}

// Every operation on the bucket goes wrong once, in each of the ways that there
// are: the job goes on, or stops with an error that names the object and goes on
// from what it left. What readers of the sink see is the same.
func TestEveryBucketOperationGoesWrongOnce(t *testing.T) {
	want := map[tally]int{}
	for v := range int64(lifeRows) {
		want[tally{v % lifeKeys, v/lifeKeys + 1}] = 1
	}
	for name, rule := range map[string]faulty.Rule{
		"fails":                      {Kind: faulty.Fail},
		"happens, the reply is lost": {Ops: faulty.Writes, Kind: faulty.LoseReply},
		"fails on this key for good": {Kind: faulty.Fail, Sticky: true},
		"reads half":                 {Ops: faulty.Get, Kind: faulty.CutShort},
		"reads half for good":        {Ops: faulty.Get, Kind: faulty.CutShort, Sticky: true},
		"reads a flipped bit":        {Ops: faulty.Get, Kind: faulty.FlipBit},
	} {
		t.Run(name, func(t *testing.T) {
			stops := 0
			met := map[string]int{}
			step := uint64(1)
			if testing.Short() {
				step = 7
			}
			for n := uint64(1); ; n += step {
				var hit faulty.Hit
				synctest.Test(t, func(t *testing.T) {
					inner := blob.NewMemory()
					rule := rule
					rule.Nth = n
					l := &life{bucket: faulty.New(inner, 1, rule)}
					l.live(t)
					hit, _ = l.bucket.First()
					check(t, fmt.Sprintf("operation %d, %s %s", n, hit.Op, hit.Key), l, inner, hit, want)
					stops += len(l.stops)
				})
				if hit == (faulty.Hit{}) {
					t.Logf("%d operations, %d clean stops: %v", n-1, stops, met)
					break
				}
				met[hit.Op+" "+kindOf(hit.Key)]++
				if t.Failed() {
					break
				}
			}
		})
	}
}

func check(t *testing.T, what string, l *life, inner blob.Bucket, hit faulty.Hit, want map[tally]int) {
	t.Helper()
	if got := shown(t, inner); !maps.Equal(got, want) {
		t.Errorf("%s: %d rows are shown, want %d; %d runs stopped: %v", what, len(got), len(want), len(l.stops), l.stops)
		for row, times := range got {
			if times != want[row] {
				t.Errorf("%s: row %+v is shown %d times, want %d", what, row, times, want[row])
				break
			}
		}
	}
	for _, err := range l.stops {
		if !strings.Contains(err.Error(), hit.Key) {
			t.Errorf("%s: the error does not name the object: %v", what, err)
		}
	}
	said := l.log.String()
	for _, err := range l.stops {
		said += err.Error()
	}
	if hit.Key != "" && !strings.Contains(said, hit.Key) {
		t.Errorf("%s: nobody was told", what)
	}
	if t.Failed() {
		t.Log(l.log.String())
	}
}

// kindOf is what an object is, by its key.
func kindOf(key string) string {
	switch {
	case strings.HasPrefix(key, "sink/"):
		return "of the sink"
	case strings.HasSuffix(key, "/manifest") || strings.Contains(key, "manifest"):
		return "manifest"
	case strings.Contains(key, "state"):
		return "state"
	}
	return "folder"
}
