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
	// Faults is how many are made (15); the run ends earlier once Kills processes
	// were killed, or after Duration, where set.
	Faults, Kills int
	Duration      time.Duration
	// Kinds of faults to draw from; every one that the run can make without any.
	Kinds []Kind
	// Killing draws mostly kills, many of them while the job recovers from the
	// last one: what it takes to make a thousand.
	Killing bool
	// Points that are armed at random; all of them without any.
	Points []string
	// Plan is what to do, in order, in place of faults that are drawn.
	Plan []Step
	// TaskManagers (3), Slots of each (2), Parallelism of the job (4: it spreads,
	// and one task manager can be away), Shards of a stream at first (4).
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
	// Settle bounds the time between two faults, at random (1 s, 250 ms
	// where Killing).
	Settle time.Duration
	// Stream has the job write a stream, which is read, instead of the outlet.
	Stream bool
	// Tiered gives the job's state a memory that is too small for it, and has
	// upgrades change between the backends.
	Tiered bool
	// S3 keeps the bucket in a store whose faults the run makes.
	S3 bool
	// Proxy puts the run between the processes.
	Proxy bool
	// Args of the job besides, and Run of `millrace run`; Env of processes.
	Args, Run, Env []string
	// Log is told what happens.
	Log func(format string, args ...any)
	// Folder for everything; a temporary one without it. What a run that fails
	// leaves in it stays.
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
		if c.Killing {
			c.Settle = 250 * time.Millisecond
		}
	}
	if c.Log == nil {
		c.Log = func(string, ...any) {}
	}
}

// Failure is what a run found.
type Failure struct {
	Seed uint64
	Err  error
	// History are the last faults, Logs what the processes wrote last.
	History []string
	Logs    map[string]string
	// Folder has what is left of the run, where it stays.
	Folder string
}

func (f *Failure) Error() string {
	s := fmt.Sprintf("seed %d: %v\nfaults:\n%s", f.Seed, f.Err, lines(f.History))
	if f.Folder != "" {
		s += "left in " + f.Folder + "\n"
	}
	return s
}

func (f *Failure) Unwrap() error { return f.Err }

func lines(all []string) string {
	s := ""
	for _, l := range all {
		s += "  " + l + "\n"
	}
	return s
}
