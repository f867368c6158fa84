package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/connector/files"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/sdk"
)

// visit is a record of the jobs.
type visit struct {
	ID   int    `csv:"id"`
	Page string `csv:"page"`
}

func (v visit) page() string { return "page=" + v.Page }

// trouble has a job fail so many times, each after another commit.
type trouble struct{ left, commits atomic.Int32 }

func (f *trouble) strikes() bool {
	return f.left.Load() > 0 && f.commits.Swap(0) > 0 && f.left.Add(-1) >= 0
}

// visits is a job that reads lines, fails on its way, and writes CSV.
func visits(in, out string, failures *trouble, sink func(files.Parts[visit]) files.Parts[visit]) func(*sdk.Env) error {
	return func(env *sdk.Env) error {
		env.Name("visits")
		env.Parallelism(3)
		env.CheckpointEvery(10 * time.Millisecond)
		env.Restart(sdk.RestartAfter(time.Millisecond, 0))
		sdk.From(env, sdk.Files(in, sdk.CSV[visit](), sdk.Header())).
			KeyBy(func(v visit) string { return v.Page }).
			Process("fails", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, visit, visit] {
				seen := op.Value[int64]("seen")
				return sdk.KeyedFn[string, visit, visit]{Each: func(c *sdk.KeyedContext[string, visit], v visit) error {
					seen.Set(seen.Get() + 1)
					c.Emit(v)
					if seen.Get()%100 == 99 && failures.strikes() {
						return errors.New("broken on purpose")
					}
					return nil
				}}
			}).
			To(sink(files.Sink(out, files.CSV[visit]())))
		return nil
	}
}

func writeInput(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "visits.csv")
	var b strings.Builder
	b.WriteString("id,page\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,p%d\n", i, i%7)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func runJob(t *testing.T, build func(*sdk.Env) error, failures *trouble) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := local.Run(ctx, local.Config{
		Graph: func() (*graph.Graph, error) { return sdk.Plan(build, nil, true) }, Parallelism: 3,
		Watch: func(o job.Observation) {
			if _, ok := o.(job.SinkCommitted); ok {
				failures.commits.Add(1)
			}
		},
	}); err != nil {
		t.Fatal(err)
	}
}

// TestAJobWritesEachRecordOnce breaks a job several times on its way, and has
// another job read what it wrote.
func TestAJobWritesEachRecordOnce(t *testing.T) {
	const records = 200_000
	in, out := writeInput(t, records), filepath.Join(t.TempDir(), "out")
	var failures trouble
	failures.left.Store(5)
	runJob(t, visits(in, out, &failures, func(p files.Parts[visit]) files.Parts[visit] {
		return p.PartitionBy(visit.page).RollAt(10_000)
	}), &failures)
	if n := failures.left.Load(); n > 0 {
		t.Errorf("the job failed %d times less than it was to", n)
	}
	if left := find(t, filepath.Join(out, ".staged")); len(left) != 1 || filepath.Base(left[0]) != "ledger" {
		t.Errorf("besides a ledger there is %v", left)
	}
	for _, path := range find(t, out) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(path, "/.") && info.Size() > 10_100 {
			t.Errorf("%s has %d bytes", path, info.Size())
		}
	}
	var read []int
	var wrong []string
	if err := sdk.Run(t.Context(), func(env *sdk.Env) error {
		sdk.From(env, sdk.Files(filepath.Join(out, "page=*", "part-*.csv"), sdk.CSV[visit](), sdk.Header())).
			To(sdk.Func(func(v visit) error {
				read = append(read, v.ID)
				if want := fmt.Sprintf("p%d", v.ID%7); v.Page != want {
					wrong = append(wrong, v.Page)
				}
				return nil
			}))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(read)
	want := make([]int, records)
	for i := range want {
		want[i] = i
	}
	if diff := cmp.Diff(want, read); diff != "" {
		t.Errorf("records read back (-want +got):\n%s", diff)
	}
	if len(wrong) > 0 {
		t.Errorf("pages %v", wrong)
	}
}

// TestASecondRunAddsToTheFolder: it is another lineage, whose parts have names
// of their own.
func TestASecondRunAddsToTheFolder(t *testing.T) {
	in, out := writeInput(t, 100), filepath.Join(t.TempDir(), "out")
	var failures trouble
	plain := func(p files.Parts[visit]) files.Parts[visit] { return p }
	runJob(t, visits(in, out, &failures, plain), &failures)
	first := find(t, out)
	runJob(t, visits(in, out, &failures, plain), &failures)
	lines := 0
	for _, path := range find(t, out) {
		if strings.HasSuffix(path, ".csv") {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines += strings.Count(string(data), "\n") - 1
		}
	}
	if lines != 200 || len(first) == 0 {
		t.Errorf("%d lines after two runs of 100", lines)
	}
}

// find returns the files below a folder, but for the bucket's own.
func find(t *testing.T, folder string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.Name() == ".millrace" {
			return filepath.SkipDir
		}
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// env is the surroundings of one subtask.
func env(epoch uint64, failed func(error)) sdk.SinkEnv {
	return sdk.SinkEnv{UID: "to-out", Lineage: "line", Epoch: epoch, Parallelism: 1, Fail: failed, Held: func() {}}
}

// prepare writes rows and returns the handle of checkpoint 1.
func prepare(t *testing.T, s files.Parts[row], epoch uint64, rows ...row) sdk.Handle {
	t.Helper()
	w, err := s.Open(t.Context(), env(epoch, func(err error) { t.Error(err) }))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Write(&sdk.Batch[row]{Values: rows}); err != nil {
		t.Fatal(err)
	}
	finish, err := w.(sdk.Preparer).Prepare(1)
	if err != nil {
		t.Fatal(err)
	}
	h, err := finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sdk.Handle{Value: h}
}

// A part that its reader has taken away does not come back, and one that was
// lost before it was committed is not passed over.
func TestWhatIsGoneIsKnownForWhatItIs(t *testing.T) {
	folder := t.TempDir()
	s := files.Sink(folder, files.JSON[row]())
	h := prepare(t, s, 1, row{1})
	for range 2 {
		if err := s.Commit(t.Context(), env(1, nil), 1, []sdk.Handle{h}); err != nil {
			t.Fatal(err)
		}
		for _, path := range find(t, folder) {
			if strings.HasSuffix(path, ".jsonl") {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := s.Recover(t.Context(), env(2, nil), 1, []sdk.Handle{h}); err != nil {
		t.Fatal(err)
	}
	if left := find(t, folder); len(left) != 1 {
		t.Errorf("a part came back: %v", left)
	}
	h = prepare(t, s, 2, row{2})
	if err := os.RemoveAll(filepath.Join(folder, ".staged", filepath.Base(filepath.Dir(find(t, folder)[0])), "2")); err != nil {
		t.Fatal(err)
	}
	for _, path := range find(t, folder) {
		if !strings.HasSuffix(path, "ledger") {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := s.Commit(t.Context(), env(2, nil), 2, []sdk.Handle{h})
	var code interface {
		error
		ErrorCode() string
	}
	if !errors.As(err, &code) || code.ErrorCode() != "output-refused" || !strings.Contains(err.Error(), "part-") {
		t.Errorf("the commit of a part that is gone: %v", err)
	}
}

// Nothing in a partition's name leads out of the location or hides its files.
func TestPartitionsStayInTheirPlace(t *testing.T) {
	for _, partition := range []string{"..", "a/../b", "/a", "a/", ".staged", "a/.b", "a//b", "a\x00"} {
		s := files.Sink("mem://partitions", files.JSON[row]()).PartitionBy(func(row) string { return partition })
		w, err := s.Open(t.Context(), env(1, func(error) {}))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&sdk.Batch[row]{Values: []row{{1}}}); err == nil {
			t.Errorf("partition %q was taken", partition)
		}
		w.Close()
	}
}

// More partitions than a subtask has open at a time: parts end early, nothing is
// lost.
func TestManyPartitions(t *testing.T) {
	b := blob.NewMemory()
	release := files.Adopt("many", b)
	defer release()
	s := files.Sink("many", files.JSON[row]()).PartitionBy(func(r row) string { return fmt.Sprintf("n=%d", r.N%100) }).Gzip()
	var rows []row
	for i := range 1000 {
		rows = append(rows, row{i})
	}
	h := prepare(t, s, 1, rows...)
	if err := s.Commit(t.Context(), env(1, nil), 1, []sdk.Handle{h}); err != nil {
		t.Fatal(err)
	}
	got, staged, err := read(t.Context(), b)
	if err != nil || staged != 0 {
		t.Fatalf("%d parts are staged, %v", staged, err)
	}
	slices.SortFunc(got, func(a, b row) int { return a.N - b.N })
	if diff := cmp.Diff(rows, got); diff != "" {
		t.Error(diff)
	}
}

func TestPlansThatAreRefused(t *testing.T) {
	for want, s := range map[string]files.Parts[row]{
		"location": files.Sink("", files.JSON[row]()),
		"format":   files.Sink[row]("out", nil),
		"4 GiB":    files.Sink("out", files.JSON[row]()).RollAt(0),
		"codec":    files.Sink("out", files.Func[row]("x", nil)),
	} {
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %s", err, want)
		}
	}
	if name := files.Sink("s3://bucket/a/delays/?region=x", files.JSON[row]()).Name(); name != "to-delays" {
		t.Errorf("the sink's name is %s", name)
	}
}

// A bucket that is away for a while holds up a checkpoint, and fails no task.
func TestAnUploadIsRepeated(t *testing.T) {
	f := &faults{Bucket: blob.NewMemory()}
	release := files.Adopt("away", f)
	defer release()
	s := files.Sink("away", files.JSON[row]())
	w, err := s.Open(t.Context(), env(1, func(err error) { t.Error(err) }))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Write(&sdk.Batch[row]{Values: []row{{1}, {2}}}); err != nil {
		t.Fatal(err)
	}
	f.Fail(1)
	back := time.AfterFunc(300*time.Millisecond, func() { f.Fail(0) })
	defer back.Stop()
	finish, err := w.(sdk.Preparer).Prepare(1)
	if err != nil {
		t.Fatal(err)
	}
	h, err := finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), env(1, nil), 1, []sdk.Handle{{Value: h}}); err != nil {
		t.Fatal(err)
	}
	got, _, err := read(t.Context(), f.Bucket)
	if diff := cmp.Diff([]row{{1}, {2}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
