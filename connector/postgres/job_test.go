package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/sdk"
)

// count is the running count of a key.
type count struct {
	Key string `db:"key"`
	N   int64  `db:"n"`
}

// counting is a job that numbers the records of each of ten keys, and fails
// where strikes says so. to is its sink.
func counting(records int64, strikes func() bool, to sdk.Sink[count]) func(*sdk.Env) error {
	return func(env *sdk.Env) error {
		env.Name("counting")
		env.Parallelism(2)
		env.CheckpointEvery(20 * time.Millisecond)
		env.Restart(sdk.RestartAfter(time.Millisecond, 0))
		sdk.From(env, sdk.Generate(records, func(n int64) int64 { return n })).
			KeyBy(func(n int64) string { return fmt.Sprint("key-", n%10) }).
			Process("count", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, int64, count] {
				seen := op.Value[int64]("seen")
				return sdk.KeyedFn[string, int64, count]{Each: func(c *sdk.KeyedContext[string, count], _ int64) error {
					seen.Set(seen.Get() + 1)
					c.Emit(count{c.Key(), seen.Get()})
					if seen.Get()%100 == 99 && strikes() {
						return errors.New("broken on purpose")
					}
					return nil
				}}
			}).
			To(to)
		return nil
	}
}

// trouble has a job fail so many times, each after another commit.
type trouble struct{ left, commits, restarts atomic.Int32 }

func (f *trouble) strikes() bool {
	return f.left.Load() > 0 && f.commits.Swap(0) > 0 && f.left.Add(-1) >= 0
}

func (f *trouble) watch(o job.Observation) {
	switch o.(type) {
	case job.SinkCommitted:
		f.commits.Add(1)
	case job.AttemptFailed:
		f.restarts.Add(1)
	}
}

func runJob(t *testing.T, build func(*sdk.Env) error, f *trouble) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := local.Run(ctx, local.Config{
		Graph: func() (*graph.Graph, error) { return sdk.Plan(build, nil, true) }, Parallelism: 2, Watch: f.watch,
	}); err != nil {
		t.Fatal(err)
	}
}

// audit reads what is committed until stopped: of each key the counts 1 to some
// n, each once, which never become fewer.
func (d *database) audit(stop <-chan struct{}) (looks int) {
	seen := map[string]int64{}
	other := newReader(d)
	for {
		rows, err := other.look()
		for key, n := range rows {
			switch {
			case n.distinct != n.rows || n.highest != n.rows:
				d.t.Errorf("key %s has %d rows, %d of them different, the highest %d", key, n.rows, n.distinct, n.highest)
			case n.rows < seen[key]:
				d.t.Errorf("key %s had %d rows and has %d", key, seen[key], n.rows)
			}
			seen[key] = n.rows
		}
		if err == nil {
			looks++
		}
		select {
		case <-stop:
			other.close()
			return looks
		default:
		}
	}
}

func (d *database) wantAll(each int) {
	d.t.Helper()
	var want []string
	for k := range 10 {
		want = append(want, fmt.Sprintf("key-%d: %d rows to %d", k, each, each))
	}
	got := query[string](d, "SELECT key || ': ' || count(DISTINCT n) || ' rows to ' || max(n) FROM @.counts GROUP BY key HAVING count(*) = count(DISTINCT n)")
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		d.t.Errorf("at the end (-want +got):\n%s", diff)
	}
	if rows, tables := d.staged(); rows+tables > 0 {
		d.t.Errorf("%d rows in %d staging tables are left", rows, tables)
	}
}

// TestAJobWritesEachRowOnce breaks a job five times, while a reader looks on.
func TestAJobWritesEachRowOnce(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE @.counts (key text NOT NULL, n bigint NOT NULL)")
	var f trouble
	f.left.Store(5)
	stop, looks := make(chan struct{}), make(chan int)
	go func() { looks <- d.audit(stop) }()
	runJob(t, counting(100_000, f.strikes, Sink[count](d.url, d.schema+".counts").Schema(d.schema)), &f)
	close(stop)
	if n := <-looks; n < 3 {
		t.Errorf("the reader looked %d times", n)
	}
	if n := f.restarts.Load(); n != 5 {
		t.Errorf("the job restarted %d times, want 5", n)
	}
	d.wantAll(10_000)
}

// TestAJobOutlivesItsServer crashes the server under a job, and ends its
// sessions, after commits.
func TestAJobOutlivesItsServer(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE @.counts (key text NOT NULL, n bigint NOT NULL, UNIQUE (key, n))")
	var f trouble
	f.left.Store(4)
	hurt := make(chan struct{}, 10)
	strikes := func() bool {
		if f.strikes() {
			hurt <- struct{}{}
		}
		return false
	}
	done := make(chan error, 2)
	go func() {
		i := 0
		for range hurt {
			if i++; i%2 == 1 {
				if err := errors.Join(theServer.kill(), theServer.run()); err != nil {
					done <- err
					return
				}
				continue
			}
			c := newReader(d)
			if _, err := c.conn.Exec(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(application_name, 'millrace ')"); err != nil {
				done <- err
				return
			}
			c.close()
		}
		if i < 2 {
			done <- fmt.Errorf("the server was hurt %d times only", i)
		}
		done <- nil
	}()
	runJob(t, counting(1_000_000, strikes, Sink[count](d.url, d.schema+".counts").Schema(d.schema)), &f)
	close(hurt)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := f.restarts.Load(); n > 0 {
		t.Errorf("the job restarted %d times: its sink was to wait", n)
	}
	d.reconnect()
	d.wantAll(100_000)
}

// TestAnUpsertingJobKeepsTheLatest ends with the last count of each key.
func TestAnUpsertingJobKeepsTheLatest(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE @.counts (key text PRIMARY KEY, n bigint NOT NULL)")
	var f trouble
	f.left.Store(3)
	runJob(t, counting(100_000, f.strikes, Sink[count](d.url, d.schema+".counts").Schema(d.schema).Upsert("key")), &f)
	got := query[string](d, "SELECT key || '=' || n FROM @.counts ORDER BY key")
	var want []string
	for k := range 10 {
		want = append(want, fmt.Sprintf("key-%d=10000", k))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// A job whose output the table refuses fails at once, and says why: of a unique
// key at the commit, of a CHECK before that.
func TestAJobThatIsRefusedFails(t *testing.T) {
	t.Run("unique", func(t *testing.T) {
		wantFailure(t, "CREATE TABLE @.counts (key text NOT NULL, n bigint NOT NULL); CREATE UNIQUE INDEX once ON @.counts (key)",
			"once", "counts", "Key (key)=(key-")
	})
	t.Run("check", func(t *testing.T) {
		wantFailure(t, "CREATE TABLE @.counts (key text NOT NULL, n bigint NOT NULL CONSTRAINT few CHECK (n < 5000))",
			"stage rows", "few", "Failing row contains (key-")
	})
}

func wantFailure(t *testing.T, table string, says ...string) {
	t.Helper()
	d := newDatabase(t)
	d.exec(table)
	var f trouble
	build := counting(100_000, f.strikes, Sink[count](d.url, d.schema+".counts").Schema(d.schema))
	err := local.Run(t.Context(), local.Config{
		Graph: func() (*graph.Graph, error) { return sdk.Plan(build, nil, true) }, Parallelism: 2, Watch: f.watch,
	})
	var failed *job.Error
	if !errors.As(err, &failed) || failed.Code != "output-refused" {
		t.Fatalf("the job ended with %v", err)
	}
	wantRefused(t, "the job", sdk.Refused(err), says...)
	if n := f.restarts.Load(); n > 1 {
		t.Errorf("%d failures, want one", n)
	}
}
