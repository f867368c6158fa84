//go:build linux

package clustertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parts is a cluster of one job manager and one task manager, processes of
// their own that are restarted on the same folders and, for the job manager,
// the same ports.
type parts struct {
	t       *testing.T
	bucket  string
	jmData  string
	tmData  string
	rest    rest
	join    string
	jm, tm  *process
	kinesis endpoint
}

func startParts(t *testing.T, slots int) *parts {
	t.Helper()
	dir := t.TempDir()
	p := &parts{
		t: t, bucket: "file://" + filepath.Join(dir, "bucket"),
		jmData: filepath.Join(dir, "jm"), tmData: filepath.Join(dir, "tm"), rest: "http://127.0.0.1:0", join: "127.0.0.1:0",
	}
	p.startJobManager()
	p.startTaskManager(slots)
	return p
}

func (p *parts) startJobManager() {
	p.t.Helper()
	p.jm = start(p.t, "jobmanager", "jobmanager", "--data", p.jmData, "--bucket", p.bucket,
		"--rest", p.rest.address(), "--bind", p.join, "--log-level", "info")
	p.rest, p.join = rest(p.jm.ready["rest"]), p.jm.ready["join"]
}

func (p *parts) startTaskManager(slots int) {
	p.t.Helper()
	p.tm = start(p.t, "taskmanager", "taskmanager", "--data", p.tmData, "--join", p.join,
		"--kinesis", "127.0.0.1:0", "--slots", strconv.Itoa(slots), "--log-level", "info")
	p.kinesis.set(p.tm.ready["kinesis"])
}

// victim is what a round of the kill test ends.
type victim int

const (
	worker victim = iota
	taskManager
	jobManager
)

func (v victim) String() string { return [...]string{"worker", "task manager", "job manager"}[v] }

// victims draws who is killed in which round: each at least six times. A job
// manager is among every few, for the delay before a restart grows with the
// failures in a row that one job manager has seen.
func victims(t *testing.T, rng *rand.Rand) []victim {
	t.Helper()
	rounds := 20
	if s := os.Getenv("MILLRACE_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("MILLRACE_KILLS: %v", err)
		}
		rounds = max(rounds, n)
	}
	var all []victim
	for len(all) < rounds {
		for _, v := range rng.Perm(3) {
			all = append(all, victim(v))
		}
	}
	return all[:rounds]
}

// TestKilledAtRandomMomentsTheOutputIsTheSame kills a worker, the task manager
// or the job manager in each round while flights come in and results are read,
// and compares the committed results with those of an uninterrupted run and of
// a plain loop.
func TestKilledAtRandomMomentsTheOutputIsTheSame(t *testing.T) {
	rng := random(t)
	order := victims(t, rng)
	c := startParts(t, 2)
	mustRun(t, "stream", "create", "flights", "--shards", "4", "--kinesis", c.tm.ready["kinesis"])
	id := submit(t, c.rest, 2, "delays")
	delays := watch(t, &c.kinesis, "delays")
	input := newFeeder(&c.kinesis, "flights")

	size := len(flights())/len(order) + 1
	pieces := slices.Collect(slices.Chunk(flights(), size))
	for round, v := range order {
		fed := make(chan error, 1)
		go func() { fed <- input.put(t.Context(), pieces[round]) }()
		began, kills := time.Now(), 0
		for kills == 0 || kills == 1 && rng.IntN(4) == 0 { // the second time, the job has hardly recovered
			c.kill(id, v, rng)
			kills++
		}
		select {
		case err := <-fed:
			if err != nil {
				t.Fatalf("round %d, %v: %v", round, v, err)
			}
		case <-time.After(patience):
			t.Fatalf("round %d, %v: flights cannot be put %v after the kill", round, v, patience)
		}
		d := c.rest.awaitRunning(t, id, 0)
		t.Logf("round %2d: %-12v %d killed, %5d results seen, all tasks run after %v, epoch %d",
			round, v, kills, delays.results.Load(), time.Since(began).Round(time.Millisecond), d.Epoch)
		select {
		case <-delays.done:
			t.Fatalf("round %d, %v: a reader of delays saw: %v", round, v, delays.err)
		default:
		}
	}
	drain(t, c.rest, id)
	if err := delays.end(); err != nil {
		t.Fatalf("a reader of delays saw: %v", err)
	}
	if err := delays.contents.again(t.Context()); err != nil {
		t.Fatalf("a reader of delays saw: %v", err)
	}
	if delays.passes < len(order) {
		t.Errorf("delays was read from its beginning only %d times in %d rounds", delays.passes, len(order))
	}
	checkOutput(t, &c.kinesis, "delays")

	calm := submit(t, c.rest, 2, "calm")
	drain(t, c.rest, calm)
	same(t, "delays, against a run without kills", readAll(t, &c.kinesis, "calm").sorted(), delays.contents.sorted())
	if left := c.tm.workers(); len(left) > 0 {
		eventually(t, "workers end with their jobs", func() (bool, string) {
			left := c.tm.workers()
			return len(left) == 0, fmt.Sprint(left)
		})
	}
}

// kill ends a victim at a random moment, and starts it again where that is ours
// to do. It returns once the process is ready and an attempt of the job that
// the kill made necessary is known.
//
// A third of the moments are any; the others are within milliseconds of a
// manifest, and of a record in the journal: then a checkpoint completes and its
// output is committed.
func (p *parts) kill(id string, v victim, rng *rand.Rand) {
	p.t.Helper()
	before, err := p.rest.job(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	after := time.Duration(rng.Int64N(int64(400 * time.Millisecond)))
	switch rng.IntN(3) {
	case 0:
		p.awaitObject("jobs/" + id + "/checkpoints")
		after = time.Duration(rng.Int64N(int64(8 * time.Millisecond)))
	case 1:
		p.awaitObject("journal")
		after = time.Duration(rng.Int64N(int64(3 * time.Millisecond)))
	}
	select {
	case <-time.After(after):
	case <-p.t.Context().Done():
	}
	switch v {
	case worker:
		pid := p.aWorker()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			p.t.Fatal(err)
		}
		p.awaitEpoch(id, before.Epoch+1)
	case taskManager:
		orphans := p.tm.workers()
		p.tm.kill()
		gone(p.t, orphans)
		p.startTaskManager(2)
		p.awaitEpoch(id, before.Epoch+1)
	case jobManager:
		p.jm.kill()
		p.startJobManager()
	}
}

// awaitObject waits until an object with a prefix is written to the bucket, or
// for two seconds where none comes.
func (p *parts) awaitObject(prefix string) {
	p.t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		p.t.Fatalf("inotify: %v", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	folder := filepath.Join(strings.TrimPrefix(p.bucket, "file://"), prefix)
	if _, err := syscall.InotifyAddWatch(fd, folder, syscall.IN_CREATE|syscall.IN_MOVED_TO); err != nil {
		p.t.Fatalf("watch %s: %v", folder, err)
	}
	if err := events.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	if _, err := events.Read(make([]byte, 4096)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("watch %s: %v", folder, err)
	}
}

// aWorker is the id of a process of the task manager, as soon as it has one.
func (p *parts) aWorker() (pid int) {
	p.t.Helper()
	eventually(p.t, "a worker", func() (bool, string) {
		all := p.tm.workers()
		if len(all) > 0 {
			pid = all[0]
		}
		return len(all) > 0, "none"
	})
	return pid
}

func (p *parts) awaitEpoch(id string, epoch uint64) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("epoch %d of job %s", epoch, id), func() (bool, string) {
		d, err := p.rest.job(p.t.Context(), id)
		if err != nil {
			return false, err.Error()
		}
		return d.Epoch >= epoch, d.String()
	})
}
