//go:build linux

package chaos

import (
	"fmt"
	"time"
)

// Config says what a run does. The zero value of a field but Binaries is the
// default that its comment names.
type Config struct {
	// Seed of all choices; 0 takes one from the clock.
	Seed uint64
	// Binaries to run.
	Binaries Binaries
	// Faults is how many are made (15), Duration ends the run earlier where set.
	Faults   int
	Duration time.Duration
	// Kinds of faults to draw from; every one that the run can make without any.
	Kinds []Kind
	// Points that are armed by FailpointKill; all of them without any.
	Points []string
	// Plan is what to do, in order, in place of faults that are drawn.
	Plan []Step
	// TaskManagers (3), Slots of each (2), Parallelism of the job (4: it spreads,
	// and one task manager can be away), Shards of the input (4).
	TaskManagers, Slots, Parallelism, Shards int
	// Entries ends the input at a number, with none that come late; else it ends
	// with the last fault.
	Entries uint64
	// Rate of the input in entries a second (1500), Keys (200).
	Rate int
	Keys uint64
	// Checkpoint is the time between two (200 ms).
	Checkpoint time.Duration
	// Ballast is how many keys with 100 bytes of state the job has beside.
	Ballast int
	// Patience bounds every wait for something that a healthy system does at
	// once (60 s).
	Patience time.Duration
	// Settle bounds the time between two faults, at random (1 s).
	Settle time.Duration
	// Stream has the job write a stream, which is read, instead of the outlet.
	Stream bool
	// S3 keeps the bucket in a store whose faults the run makes.
	S3 bool
	// Proxy puts the run between the processes.
	Proxy bool
	// Args of the job besides, and Run of `millrace run`; Env of processes.
	Args, Run, Env []string
	// Log is told what happens.
	Log func(format string, args ...any)
	// Folder for everything; a temporary one without it.
	Folder string
}

func (c *Config) defaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	if len(c.Plan) > 0 {
		c.Faults = len(c.Plan)
	}
	set(&c.Faults, 15)
	set(&c.TaskManagers, 3)
	set(&c.Slots, 2)
	set(&c.Parallelism, 4)
	set(&c.Shards, 4)
	set(&c.Rate, 1500)
	if c.Keys == 0 {
		c.Keys = 200
	}
	if c.Checkpoint == 0 {
		c.Checkpoint = 200 * time.Millisecond
	}
	if c.Patience == 0 {
		c.Patience = time.Minute
	}
	if c.Settle == 0 {
		c.Settle = time.Second
	}
	if c.Log == nil {
		c.Log = func(string, ...any) {}
	}
}

// Kind is a kind of fault.
type Kind string

// Kinds of faults. A stop is longer than it takes to give a process up; it
// then goes on as a zombie.
const (
	KillWorker      Kind = "kill worker"
	KillTaskManager Kind = "kill task manager"
	KillJobManager  Kind = "kill job manager"
	StopWorker      Kind = "stop worker"
	StopTaskManager Kind = "stop task manager"
	StopHost        Kind = "stop task manager and worker"
	StopJobManager  Kind = "stop job manager"
	FailpointKill   Kind = "kill at failpoint"
	FailpointStop   Kind = "stop at failpoint"
	FailpointError  Kind = "error at failpoint"
	BucketErrors    Kind = "bucket errors"
	BucketSlow      Kind = "bucket slow"
	BucketReplies   Kind = "bucket replies lost"
	BucketAway      Kind = "bucket away"
	CutLinks        Kind = "connections cut"
	OneWay          Kind = "one-way partition"
	Starve          Kind = "cpu starved"
	Rescale         Kind = "rescale"
	Upgrade         Kind = "upgrade"
)

// Step is one fault of a plan.
type Step struct {
	Kind Kind
	// Points to arm, for the kinds at failpoints.
	Points string
	// To is a parallelism, for Rescale and Upgrade.
	To int
	// Run replaces the arguments of `millrace run` from an Upgrade on.
	Run []string
}

// kinds are those that this run can make.
func (c *Config) kinds() []Kind {
	if len(c.Kinds) > 0 {
		return c.Kinds
	}
	all := []Kind{KillWorker, KillTaskManager, KillJobManager, KillWorker, KillTaskManager, KillJobManager,
		StopTaskManager, StopHost, StopJobManager, Starve}
	if c.Binaries.Failpoints {
		all = append(all, FailpointKill, FailpointKill, FailpointKill, FailpointStop, FailpointError)
	}
	if c.S3 {
		all = append(all, BucketErrors, BucketSlow, BucketReplies, BucketAway)
	}
	if c.Proxy {
		all = append(all, CutLinks, OneWay)
	}
	if c.Binaries.Rescale {
		all = append(all, Rescale, Rescale)
	}
	if c.Binaries.Upgraded != "" {
		all = append(all, Upgrade)
	}
	return all
}

// Failure is what a run found.
type Failure struct {
	Seed uint64
	Err  error
	// History are the last faults, Logs what the processes wrote last.
	History []string
	Logs    map[string]string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d: %v\nfaults:\n%s", f.Seed, f.Err, lines(f.History))
}

func (f *Failure) Unwrap() error { return f.Err }

func lines(all []string) string {
	s := ""
	for _, l := range all {
		s += "  " + l + "\n"
	}
	return s
}
