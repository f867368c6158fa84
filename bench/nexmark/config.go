package nexmark

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ValidAfter is how long a run has to be to say something about speed.
const ValidAfter = 20 * time.Second

// Config says what to measure. Validate names what is missing or wrong.
type Config struct {
	// Executable is the millrace binary: cluster and job.
	Executable string
	Query      string
	Events     int64
	Seed       uint64
	// Rate is the number of events in a second of event time.
	Rate int64
	// OutOfOrder is how many events are shuffled among each other; 0 leaves all in
	// order.
	OutOfOrder int64
	// Throttle is the number of events in a second of the clock; 0 is as fast as
	// it goes.
	Throttle int64
	// Share, where above 0, has the query run as fast as it goes first, and then
	// throttled to that share of what it reached.
	Share float64
	// Slide is that of the windows of q5; 0 leaves it as it is.
	Slide time.Duration
	// Parallelism is that of every operator, Workers the number of task managers.
	Parallelism, Workers int
	// CheckpointInterval is 0 for none but the last.
	CheckpointInterval time.Duration
	// State is memory or tiered.
	State string
	// SlotMemory is that of one slot in bytes.
	SlotMemory uint64
	// Hash asks for the hash of all results.
	Hash bool
	// WarmUp is how long after the first event results do not count for latency.
	WarmUp time.Duration
	// Profile is a folder for profiles of workers; none for "".
	Profile string
	// Args are further arguments of the job.
	Args []string
	// Progress is told where things stand, some times a second; nil tells nobody.
	Progress func(text string)
}

// Validate returns an error that says what is wrong and what to do. splits is
// the number of the source's splits.
func (c *Config) Validate(queries []string, splits int) error {
	switch {
	case !slices.Contains(queries, c.Query):
		return fmt.Errorf("--query %s: there is no such query; there are %s", c.Query, strings.Join(queries, ", "))
	case c.Events < 1:
		return fmt.Errorf("--events %d: a run has at least one event", c.Events)
	case c.Rate < 1:
		return fmt.Errorf("--rate %d: a second of event time has at least one event", c.Rate)
	case c.Throttle < 0:
		return fmt.Errorf("--throttle %d: give events a second, or 0 for as fast as it goes", c.Throttle)
	case c.Share < 0 || c.Share >= 1 || c.Share > 0 && c.Throttle > 0:
		return fmt.Errorf("--throttle %.0f%%: give a share between 0%% and 100%%, or events a second", 100*c.Share)
	case c.Slide < 0 || c.Slide%time.Millisecond != 0:
		return fmt.Errorf("--slide %v: windows begin at whole milliseconds", c.Slide)
	case c.Parallelism < 1:
		return fmt.Errorf("--parallelism %d: an operator has at least one subtask", c.Parallelism)
	case c.Workers < 1:
		return fmt.Errorf("--workers %d: at least one task manager is needed", c.Workers)
	case c.Parallelism < c.Workers:
		return fmt.Errorf("--parallelism %d leaves some of --workers %d without a task: raise the one or lower the other", c.Parallelism, c.Workers)
	case c.Parallelism > splits:
		return fmt.Errorf("--parallelism %d is more than the source has splits, which are %d: further subtasks would have nothing to read", c.Parallelism, splits)
	case c.CheckpointInterval < 0:
		return fmt.Errorf("--checkpoint-interval %v: give a time, or 0 for none but the last", c.CheckpointInterval)
	case c.State != "memory" && c.State != "tiered":
		return fmt.Errorf("--state %s: it is memory or tiered", c.State)
	case c.SlotMemory < 16<<20:
		return fmt.Errorf("--slot-memory %d: a slot has at least 16 MiB", c.SlotMemory)
	case c.WarmUp < 0:
		return fmt.Errorf("--warm-up %v: give a time", c.WarmUp)
	case c.Executable == "":
		return errors.New("nexmark: no executable to measure")
	}
	// Figures would be said to be of what the flags ask for.
	for _, arg := range c.Args {
		if name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); slices.Contains(own, name) {
			return fmt.Errorf("--job=%s: the benchmark itself gives the job its --%s", arg, name)
		}
	}
	return nil
}

// own are the arguments of the job that follow from a configuration.
var own = []string{"query", "events", "seed", "rate", "out-of-order", "slide", "throttle", "start", "latencies", "warm-up", "hash", "output"}

// slots is how many a task manager needs for its share of the subtasks.
func (c *Config) slots() int { return (c.Parallelism + c.Workers - 1) / c.Workers }

// taskManagerFlags are those of `millrace taskmanager`.
func (c *Config) taskManagerFlags() []string {
	flags := []string{"--slots", strconv.Itoa(c.slots()), "--slot-memory", strconv.FormatUint(c.SlotMemory, 10)}
	if c.Profile != "" {
		flags = append(flags, "--profile", c.Profile)
	}
	return flags
}

// settings are those of the job.
func (c *Config) settings() map[string]string {
	return map[string]string{
		"execution.checkpointing.interval": c.CheckpointInterval.String(),
		"state.backend.type":               c.State,
	}
}
