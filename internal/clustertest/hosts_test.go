//go:build linux

package clustertest

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestAJobMovesToTheOtherHost runs a job across two task managers, which share
// nothing but the job manager and its bucket, and kills one.
func TestAJobMovesToTheOtherHost(t *testing.T) {
	t.Parallel()
	c := startTwoHosts(t)
	feed(t, c.input, 0, 0.4)
	c.rest.awaitCheckpoint(t, c.job, time.Now())
	before, err := c.rest.job(t.Context(), c.job)
	if err != nil {
		t.Fatal(err)
	}
	orphans := c.leave.workers()
	c.leave.kill()
	began := time.Now()
	feed(t, c.input, 0.4, 0.7)
	d := c.rest.awaitRunning(t, c.job, before.Epoch+1)
	t.Logf("all tasks run on the other host after %v", time.Since(began).Round(time.Millisecond))
	gone(t, orphans)
	feed(t, c.input, 0.7, 1)
	drain(t, c.rest, c.job)
	checkOutput(t, &c.stay.kinesis, "delays")
	if d.Restarts == 0 {
		t.Errorf("no restart is counted: %v", d)
	}
}

// TestAZombieDoesNothing stops processes for longer than it takes to give them
// up, and lets them go on when the job runs elsewhere.
func TestAZombieDoesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		// stopped are the processes that sleep through the move.
		stopped func(c *twoHosts) []int
	}{
		{"task manager and worker", func(c *twoHosts) []int { return append(c.leave.workers(), c.leave.pid()) }},
		{"task manager alone, its worker runs on", func(c *twoHosts) []int { return []int{c.leave.pid()} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := startTwoHosts(t)
			zombie(t, h, c.stopped(h))
		})
	}
}

func zombie(t *testing.T, c *twoHosts, stopped []int) {
	delays := watch(t, &c.stay.kinesis, "delays")
	feed(t, c.input, 0, 0.3)
	before, err := c.rest.job(t.Context(), c.job)
	if err != nil {
		t.Fatal(err)
	}
	orphans := c.leave.workers()
	signal(t, syscall.SIGSTOP, stopped)
	feed(t, c.input, 0.3, 0.6)
	c.rest.awaitRunning(t, c.job, before.Epoch+1)
	c.rest.awaitCheckpoint(t, c.job, time.Now())
	signal(t, syscall.SIGCONT, stopped)
	feed(t, c.input, 0.6, 0.8)
	gone(t, orphans) // the task manager comes back, not the worker of an old epoch
	eventually(t, "the task manager is back", func() (bool, string) {
		var all struct {
			TaskManagers []struct {
				ID string `json:"id"`
			} `json:"taskmanagers"`
		}
		err := c.rest.get(t.Context(), "/taskmanagers", &all)
		return err == nil && len(all.TaskManagers) == 2, fmt.Sprint(all, err)
	})
	feed(t, c.input, 0.8, 1)
	drain(t, c.rest, c.job)
	if err := delays.end(); err != nil {
		t.Errorf("a reader of delays saw: %v", err)
	}
	checkOutput(t, &c.stay.kinesis, "delays")
}

// TestAFrozenWorkerIsReplaced stops one worker and leaves its task manager
// alone: it neither takes part in checkpoints nor answers its cancellation.
func TestAFrozenWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	c := startTwoHosts(t)
	feed(t, c.input, 0, 0.5)
	before, err := c.rest.job(t.Context(), c.job)
	if err != nil {
		t.Fatal(err)
	}
	frozen := c.leave.workers()
	signal(t, syscall.SIGSTOP, frozen)
	signal(t, syscall.SIGKILL, c.stay.workers())
	feed(t, c.input, 0.5, 1)
	c.rest.awaitRunning(t, c.job, before.Epoch+1)
	gone(t, frozen)
	drain(t, c.rest, c.job)
	checkOutput(t, &c.stay.kinesis, "delays")
}

func signal(t *testing.T, s syscall.Signal, pids []int) {
	t.Helper()
	if len(pids) == 0 {
		t.Fatalf("no process to send %v to", s)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatalf("%v to process %d: %v", s, pid, err)
		}
	}
}
