//go:build linux

package clustertest

import (
	"path/filepath"
	"strconv"
	"testing"
)

// host is a task manager with a data folder and ports of its own.
type host struct {
	*process
	kinesis endpoint
}

func startHost(t *testing.T, name, data, join string, slots int) *host {
	t.Helper()
	h := &host{process: start(t, name, "taskmanager", "--data", data, "--join", join,
		"--kinesis", "127.0.0.1:0", "--slots", strconv.Itoa(slots), "--log-level", "info")}
	h.kinesis.set(h.ready["kinesis"])
	return h
}

// startUp runs `millrace up` on a folder, with free ports.
func startUp(t *testing.T, data string, args ...string) (*process, rest, *endpoint) {
	t.Helper()
	p := start(t, "up", append([]string{"up", "--data", data, "--rest", "127.0.0.1:0", "--kinesis", "127.0.0.1:0", "--log-level", "info"}, args...)...)
	at := &endpoint{}
	at.set(p.ready["kinesis"])
	return p, rest(p.ready["rest"]), at
}

// twoHosts is a job manager, a task manager that hosts all streams, and a
// second one without any, each with enough slots for the whole job.
type twoHosts struct {
	rest        rest
	stay, leave *host
	input       *feeder
	job         string
}

func startTwoHosts(t *testing.T) *twoHosts {
	t.Helper()
	dir := t.TempDir()
	jm := start(t, "jobmanager", "jobmanager", "--data", filepath.Join(dir, "jm"), "--rest", "127.0.0.1:0", "--bind", "127.0.0.1:0", "--log-level", "info")
	c := &twoHosts{rest: rest(jm.ready["rest"])}
	c.stay = startHost(t, "taskmanager 1", filepath.Join(dir, "tm1"), jm.ready["join"], 4)
	for _, stream := range []string{"flights", "delays", "late-delays"} {
		mustRun(t, "stream", "create", stream, "--kinesis", c.stay.ready["kinesis"])
	}
	c.leave = startHost(t, "taskmanager 2", filepath.Join(dir, "tm2"), jm.ready["join"], 4)
	c.input = newFeeder(&c.stay.kinesis, "flights")
	c.job = submit(t, c.rest, 4, "delays")
	if len(c.stay.workers()) != 1 || len(c.leave.workers()) != 1 {
		t.Fatalf("workers %v and %v: the job is not spread over both task managers", c.stay.workers(), c.leave.workers())
	}
	return c
}

// feed puts flights from one share of the file to another.
func feed(t *testing.T, f *feeder, from, to float64) {
	t.Helper()
	n := float64(len(flights()))
	if err := f.put(t.Context(), flights()[int(from*n):int(to*n)]); err != nil {
		t.Fatal(err)
	}
}
