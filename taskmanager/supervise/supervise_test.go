package supervise

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/blob"
	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// bench is a running supervisor with a bucket and what it reported.
type bench struct {
	*Supervisor
	t      *testing.T
	target Target
	up     chan *pb.TaskManagerMessage
	stop   func()
}

// self is this test binary, read once: it is the job.
var self = sync.OnceValue(func() []byte {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return data
})

func start(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, up: make(chan *pb.TaskManagerMessage, 4096)}
	b.target = Target{Bucket: blob.NewMemory(), URL: "mem://"}
	config := Config{Data: t.TempDir(), Owner: "tm-" + t.Name(), Handshake: 20 * time.Second, Plan: 30 * time.Second,
		Up: func(m *pb.TaskManagerMessage) { b.up <- m }, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	b.Supervisor = s
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.running
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
		if left := owned(config.Owner); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// upload puts a binary into the bucket.
func (b *bench) upload(data []byte) string {
	b.t.Helper()
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	if err := b.target.Bucket.Put(b.t.Context(), "binaries/"+digest, bytes.NewReader(data), int64(len(data))); err != nil {
		b.t.Fatal(err)
	}
	return digest
}

// request is a worker that behaves in a way of fakeJob.
func (b *bench) request(id, does string) *pb.StartWorker {
	return &pb.StartWorker{JobId: "job-" + id, JobName: "test", WorkerId: id, Binary: b.upload(self()), Args: []string{does}, Slots: 1}
}

func (b *bench) next() *pb.TaskManagerMessage {
	b.t.Helper()
	select {
	case m := <-b.up:
		return m
	case <-time.After(60 * time.Second):
		b.t.Fatal("nothing was reported for a minute")
		return nil
	}
}

func (b *bench) awaitStarted() *pb.WorkerStarted {
	b.t.Helper()
	m := b.next()
	if m.GetWorkerStarted() == nil {
		b.t.Fatalf("got %v, want WorkerStarted", m)
	}
	return m.GetWorkerStarted()
}

func (b *bench) awaitExited() *pb.WorkerExited {
	b.t.Helper()
	m := b.next()
	if m.GetWorkerExited() == nil {
		b.t.Fatalf("got %v, want WorkerExited", m)
	}
	return m.GetWorkerExited()
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestWorkerRelaysInOrder(t *testing.T) {
	b := start(t, nil)
	b.StartWorker(b.target, b.request("w1", "echo"))
	started := b.awaitStarted()
	if started.GetWorkerId() != "w1" || started.GetJobId() != "job-w1" || started.GetDataAddress() != "127.0.0.1:1" || !alive(int(started.GetPid())) {
		t.Errorf("started: %v", started)
	}
	const commands = 500
	for i := range commands {
		b.Command("w1", &pb.WorkerCommand{Epoch: uint64(i)})
	}
	for i := range commands {
		from := b.next().GetFromWorker()
		if from.GetReport().GetEpoch() != uint64(i) || from.GetWorkerId() != "w1" || from.GetJobId() != "job-w1" {
			t.Fatalf("report %d: %v", i, from)
		}
	}
	b.StartWorker(b.target, b.request("w1", "echo"))
	if again := b.awaitStarted(); again.GetPid() != started.GetPid() {
		t.Errorf("a worker that runs was started again: %v", again)
	}
	if got := b.Workers(); len(got) != 1 || b.Resident() == 0 {
		t.Errorf("workers: %v, resident %d", got, b.Resident())
	}
	b.StopWorker(&pb.StopWorker{WorkerId: "w1", GraceMs: 10000})
	x := b.awaitExited()
	if !x.GetRequested() || x.GetError() != nil || x.GetSignal() != "SIGTERM" {
		t.Errorf("exited: %v", x)
	}
	b.StopWorker(&pb.StopWorker{WorkerId: "w1"})
	if x := b.awaitExited(); x.GetWorkerId() != "w1" || !x.GetRequested() {
		t.Errorf("stop of a worker that is gone: %v", x)
	}
}

func TestAnotherWorkerOfTheJobTakesOver(t *testing.T) {
	b := start(t, nil)
	first := b.request("w1", "echo")
	b.StartWorker(b.target, first)
	b.awaitStarted()
	second := b.request("w2", "echo")
	second.JobId = first.JobId
	b.StartWorker(b.target, second)
	if x := b.awaitExited(); x.GetWorkerId() != "w1" || !x.GetRequested() {
		t.Errorf("exited: %v", x)
	}
	if s := b.awaitStarted(); s.GetWorkerId() != "w2" {
		t.Errorf("started: %v", s)
	}
}

// The obituary names code, cause and the end of stderr.
func TestObituaries(t *testing.T) {
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		change   func(*Config)
		does     string
		binary   func(b *bench) string
		starts   bool
		code     string
		exit     int32
		signal   string
		mentions []string
	}{
		{name: "says nothing", change: func(c *Config) { c.Handshake, c.Plan = 100*time.Millisecond, 200*time.Millisecond }, does: "1000",
			binary: func(b *bench) string { return b.upload(sleep) },
			code:   CodeWorkerStartFailed, exit: -1, signal: "SIGKILL", mentions: []string{"worker w of job", "within 200ms"}},
		{name: "exits at once", does: "exit-at-once", code: CodeWorkerStartFailed, exit: 2, mentions: []string{"exit code 2", "usage: no such flag"}},
		{name: "is killed before it says hello", does: "die-at-once", code: CodeWorkerStartFailed, exit: -1, signal: "SIGKILL", mentions: []string{"worker w of job", "signal SIGKILL before"}},
		{name: "sends garbage", does: "garbage", code: CodeWorkerStartFailed, exit: -1, signal: "SIGKILL", mentions: []string{"no hello"}},
		{name: "other protocol", does: "from-the-future", code: CodeProtocolMismatch, exit: 3, mentions: []string{"8 to 9"}},
		{name: "crashes", does: "crash", starts: true, code: CodeWorkerExited, exit: 2, mentions: []string{"exit code 2", "about to crash", "panic: user code went wrong", "goroutine 1"}},
		{name: "exits", does: "exit", starts: true, code: CodeWorkerExited, exit: 7, mentions: []string{"exit code 7"}},
		{name: "exceeds memory", change: func(c *Config) { c.SlotMemory, c.Watch = 100<<20, 20*time.Millisecond }, does: "hog", starts: true,
			code: CodeMemoryExceeded, exit: -1, signal: "SIGKILL", mentions: []string{"100 MiB", "--slot-memory"}},
		{name: "unknown binary", binary: func(*bench) string { return strings.Repeat("ab", 32) }, code: CodeBinaryNotFound, exit: -1, mentions: []string{"abababababab"}},
		{name: "bad digest", binary: func(*bench) string { return "../../etc/passwd" }, code: CodeBinaryNotFound, exit: -1},
		{name: "not executable", binary: func(b *bench) string { return b.upload([]byte("hello")) }, code: CodeBinaryNotExecutable, exit: -1},
		{name: "other platform", binary: func(b *bench) string { return b.upload([]byte("MZ\x90\x00...")) }, code: CodeBinaryWrongPlatform, exit: -1, mentions: []string{"windows"}},
		{name: "cut off", binary: func(b *bench) string { return b.upload(self()[:30]) }, code: CodeBinaryNotExecutable, exit: -1},
		{name: "damaged in the bucket", binary: func(b *bench) string {
			digest := b.upload(self())
			if err := b.target.Bucket.Put(b.t.Context(), "binaries/"+digest, strings.NewReader("x"), 1); err != nil {
				b.t.Fatal(err)
			}
			return digest
		}, code: CodeBinaryCorrupt, exit: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, c.change)
			req := b.request("w", c.does)
			if c.binary != nil {
				req.Binary = c.binary(b)
			}
			b.StartWorker(b.target, req)
			if c.starts {
				b.awaitStarted()
			}
			x := b.awaitExited()
			if x.GetError().GetCode() != c.code || x.GetRequested() {
				t.Fatalf("exited: %v, want code %s", x, c.code)
			}
			if c.name != "other protocol" && (x.GetExitCode() != c.exit || x.GetSignal() != c.signal) {
				t.Errorf("exit code %d, signal %q; want %d, %q", x.GetExitCode(), x.GetSignal(), c.exit, c.signal)
			}
			for _, text := range c.mentions {
				if !strings.Contains(x.GetError().GetMessage(), text) {
					t.Errorf("message %q does not mention %q", x.GetError().GetMessage(), text)
				}
			}
		})
	}
}

func TestKilledFromOutside(t *testing.T) {
	b := start(t, nil)
	b.StartWorker(b.target, b.request("w", "echo"))
	pid := int(b.awaitStarted().GetPid())
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	x := b.awaitExited()
	t.Logf("the death was reported after %v", time.Since(began))
	if x.GetSignal() != "SIGKILL" || x.GetRequested() || x.GetError().GetCode() != CodeWorkerExited ||
		!strings.Contains(x.GetError().GetMessage(), "counted no kill for want of memory") {
		t.Errorf("exited: %v", x)
	}
}

func TestStubbornWorkerIsKilled(t *testing.T) {
	b := start(t, nil)
	b.StartWorker(b.target, b.request("w", "stubborn"))
	b.awaitStarted()
	b.StopWorker(&pb.StopWorker{WorkerId: "w", GraceMs: 50})
	if x := b.awaitExited(); x.GetSignal() != "SIGKILL" || !x.GetRequested() || x.GetError() != nil {
		t.Errorf("exited: %v", x)
	}
}

func TestDeafWorkerIsKilled(t *testing.T) {
	b := start(t, nil)
	b.StartWorker(b.target, b.request("w", "deaf"))
	b.awaitStarted()
	big := &pb.WorkerCommand{Body: &pb.WorkerCommand_Aborted{Aborted: &pb.CheckpointAborted{Reason: strings.Repeat("x", 4096)}}}
	for range 2 * commandQueue {
		b.Command("w", big)
	}
	if x := b.awaitExited(); x.GetError().GetCode() != CodeWorkerUnresponsive {
		t.Errorf("exited: %v", x)
	}
}

// What a worker started dies with it, in its group and out of it, and leaves
// no zombie.
func TestGrandchildrenAreReaped(t *testing.T) {
	b := start(t, nil)
	b.StartWorker(b.target, b.request("w", "has-children"))
	var pids [2]int
	started := b.awaitStarted()
	if _, err := fmt.Sscan(started.GetDataAddress(), &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if !alive(pid) {
			t.Fatalf("grandchild %d is not alive", pid)
		}
	}
	if err := syscall.Kill(int(started.GetPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.awaitExited()
	b.stop() // waits for burials
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("grandchild %d is there after its worker died", pid)
		}
	}
}

// What an earlier run left behind is killed by the next.
func TestLeftoversAreKilled(t *testing.T) {
	b := start(t, nil)
	b.StartWorker(b.target, b.request("w", "has-children"))
	var inGroup, apart int
	if _, err := fmt.Sscan(b.awaitStarted().GetDataAddress(), &inGroup, &apart); err != nil {
		t.Fatal(err)
	}
	killOwned(b.config.Owner)
	b.awaitExited()
	if alive(inGroup) || alive(apart) {
		t.Error("a process of this owner is alive")
	}
	if left := owned("tm"); len(left) > 0 {
		t.Errorf("a prefix of an owner matches %v", left)
	}
}

func TestRunEndsAllWorkers(t *testing.T) {
	b := start(t, func(c *Config) { c.Kill = 50 * time.Millisecond })
	for i, does := range []string{"echo", "stubborn", "has-children"} {
		b.StartWorker(b.target, b.request(fmt.Sprint("w", i), does))
	}
	for range 3 {
		b.awaitStarted()
	}
	b.stop()
	for range 3 {
		if x := b.awaitExited(); !x.GetRequested() || x.GetError() != nil {
			t.Errorf("exited: %v", x)
		}
	}
	b.StartWorker(b.target, b.request("late", "echo"))
	if x := b.awaitExited(); x.GetError().GetCode() != CodeShuttingDown {
		t.Errorf("start after the end: %v", x)
	}
	if _, err := b.Plan(t.Context(), b.target, &pb.RunPlan{}); !errors.Is(err, &Fault{Code: CodeShuttingDown}) {
		t.Errorf("plan after the end: %v", err)
	}
}

func TestEnvironmentIsMinimal(t *testing.T) {
	t.Setenv("MILLRACE_SECRET_OF_OURS", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "y")
	b := start(t, func(c *Config) { c.Profile = "/profiles" })
	req := b.request("w", "shows-environment")
	req.Slots, req.Env = 2, map[string]string{"JOB_SETTING": "on"}
	b.StartWorker(b.target, req)
	b.awaitStarted()
	b.StopWorker(&pb.StopWorker{WorkerId: "w"})
	b.awaitExited()
	chunk, err := b.ReadLog(&pb.ReadLog{Name: "job-w-w.out"})
	if err != nil {
		t.Fatal(err)
	}
	text := string(chunk.GetData())
	for _, want := range []string{"MILLRACE_MODE=worker", "MILLRACE_CONTROL_FD=3", "GOMEMLIMIT=1932735276", "JOB_SETTING=on", "MILLRACE_PROFILE=/profiles", "memory_bytes:2147483648"} {
		if !strings.Contains(text, want) {
			t.Errorf("the worker does not see %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "MILLRACE_SECRET_OF_OURS") || strings.Contains(text, "AWS_") {
		t.Errorf("the worker sees what is not its own:\n%s", text)
	}
}

func TestPlan(t *testing.T) {
	b := start(t, nil)
	plan := func(b *bench, does string) (*pb.PlanResult, error) {
		return b.Plan(t.Context(), b.target, &pb.RunPlan{Binary: b.upload(self()), Args: []string{does}, DefaultParallelism: 2})
	}
	result, err := plan(b, "plan")
	if err != nil || result.GetGraph().GetName() != "job" {
		t.Fatalf("plan: %v, %v", result, err)
	}
	short := start(t, func(c *Config) { c.Plan = 300 * time.Millisecond })
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		does, code string
		mentions   []string
		run        func() error
	}{
		{does: "plan-fails", code: CodeBuildFailed, mentions: []string{"no watermarks", "planning"}},
		{does: "plan-differs", code: CodePlanDiffers, mentions: []string{"map-"}},
		{does: "plan-exits", code: CodeBuildFailed, mentions: []string{"exit code 9", "giving up"}},
		{does: "exit-at-once", code: CodeBinaryWithoutSDK, mentions: []string{"usage"}},
		{does: "from-the-future", code: CodeProtocolMismatch},
		{does: "plan-hangs", code: CodePlanTimedOut, run: func() error { _, err := plan(short, "plan-hangs"); return err }},
		{does: "sleep", code: CodePlanTimedOut, run: func() error {
			_, err := short.Plan(t.Context(), short.target, &pb.RunPlan{Binary: short.upload(sleep), Args: []string{"1000"}})
			return err
		}},
	} {
		t.Run(c.does, func(t *testing.T) {
			run := c.run
			if run == nil {
				run = func() error { _, err := plan(b, c.does); return err }
			}
			err := run()
			if !errors.Is(err, &Fault{Code: c.code}) {
				t.Fatalf("got %v, want %s", err, c.code)
			}
			for _, text := range c.mentions {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not mention %q", err, text)
				}
			}
		})
	}
	if len(b.up) > 0 || len(short.up) > 0 {
		t.Error("a plan reported to the job manager as a worker does")
	}
}

func TestLogs(t *testing.T) {
	b := start(t, func(c *Config) { c.LogLimit = 100 })
	c := &capture{root: b.logs, name: "job-1-w.err", limit: 100}
	for i := range 30 {
		fmt.Fprintf(c, "line %02d\n", i)
	}
	c.close()
	list, err := b.Logs()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list.GetFiles() {
		names = append(names, f.GetName())
		if f.GetSize() > 100 {
			t.Errorf("%s has %d bytes, the limit is 100", f.GetName(), f.GetSize())
		}
	}
	if diff := cmp.Diff(map[string]bool{"job-1-w.err": true, "job-1-w.err.1": true}, set(names)); diff != "" {
		t.Errorf("logs (-want +got)\n%s", diff)
	}
	if tail := c.end(); !strings.HasSuffix(tail, "line 28\nline 29\n") || !strings.HasPrefix(tail, "line 00") {
		t.Errorf("tail: %q", tail)
	}
	for _, r := range []struct {
		offset int64
		limit  uint32
		want   string
	}{{0, 7, "line 24"}, {-8, 100, "line 29\n"}, {-1000, 7, "line 24"}, {8, 7, "line 25"}, {1000, 5, ""}} {
		chunk, err := b.ReadLog(&pb.ReadLog{Name: "job-1-w.err", Offset: r.offset, Limit: r.limit})
		if err != nil || string(chunk.GetData()) != r.want || chunk.GetSize() != 48 {
			t.Errorf("ReadLog(%d, %d) = %v, %v; want %q of 48", r.offset, r.limit, chunk, err, r.want)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(b.config.Data, "logs", "link.out")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../lock", "/etc/passwd", "a/b", "nothing", "link.out", "x\x00y", strings.Repeat("x", 5000)} {
		if _, err := b.ReadLog(&pb.ReadLog{Name: name}); !errors.Is(err, &Fault{Code: CodeLogNotFound}) && err == nil {
			t.Errorf("ReadLog(%.20q) succeeded", name)
		}
	}
	if name := logName("../../job", "w\n1"); name != "______job-w_1" {
		t.Errorf("logName = %q", name)
	}
}

func set(names []string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

// Halves of downloads go, binaries stay, and are fetched once.
func TestBinariesAreFetchedOnce(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, ".half"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	cache, err := openBinaries(folder)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, target: Target{Bucket: blob.NewMemory()}}
	digest := b.upload(self())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := cache.fetch(t.Context(), b.target.Bucket, digest); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	entries, _ := os.ReadDir(folder)
	if len(entries) != 1 || entries[0].Name() != digest {
		t.Errorf("folder holds %v", entries)
	}
	// The next run finds it without a bucket, but not if it was damaged.
	again, err := openBinaries(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.fetch(t.Context(), nil, digest); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(filepath.Join(folder, digest), 1000); err != nil {
		t.Fatal(err)
	}
	if again, err = openBinaries(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := again.fetch(t.Context(), blob.NewMemory(), digest); !errors.Is(err, &Fault{Code: CodeBinaryNotFound}) {
		t.Errorf("damaged binary: %v", err)
	}
}
