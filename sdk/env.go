package sdk

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Env is the job under construction. A build function gets one, declares flags
// and settings on it, and hangs streams on it with From. It belongs to the
// goroutine that runs build.
//
// Build is run several times: once to plan the job, and in every worker to make
// its operators. So it must come to the same graph each time; it sees nothing
// but the job's arguments, and must not depend on the clock, on random numbers
// or on the order of a map. A build whose graph differs between two runs is
// refused.
type Env struct {
	g     *graph.Graph
	flags *flags
	local bool
	doc   string
	nodes []*node
	errs  []error
	kinds map[string]int
}

func newEnv(args []string, local bool) *Env {
	restart := RestartWithBackoff(0)
	if local {
		restart = RestartWithBackoff(handRestarts)
	}
	e := &Env{
		g: &graph.Graph{
			MaxParallelism: keygroup.Default,
			Config: &pb.JobConfig{
				CheckpointIntervalMs: time.Second.Milliseconds(),
				CheckpointTimeoutMs:  time.Minute.Milliseconds(),
				RetainedCheckpoints:  1,
				Restart:              restart.pb,
				DefaultParallelism:   1,
				User:                 map[string]string{},
			},
		},
		flags: newFlags(args),
		local: local,
		kinds: map[string]int{},
	}
	e.declareBatch()
	return e
}

// handRestarts bounds the restarts of a job that runs by hand: who started it is
// waiting.
const handRestarts = 3

// fail collects an error of the graph; plan mode reports all of them.
func (e *Env) fail(err error) { e.errs = append(e.errs, err) }

// Name names the job. Without one it has the name of its binary.
func (e *Env) Name(name string) {
	if err := checkName(name); err != nil {
		e.fail(fmt.Errorf("the job's name: %w", err))
		return
	}
	e.g.Name = name
}

// Doc says what the job does; --help prints it.
func (e *Env) Doc(text string) { e.doc = text }

// Local says that the job runs inside this process, started by hand, and not
// on a cluster: the place to read a file instead of a stream. The graph may
// differ between the two.
func (e *Env) Local() bool { return e.local }

// Parallelism sets the number of subtasks of operators that set none with
// Parallel: 1 without it. The -p of a run takes precedence.
func (e *Env) Parallelism(n int) {
	if n < 1 {
		e.fail(fmt.Errorf("the job's parallelism is %d: it must be at least 1", n))
		return
	}
	e.g.Config.DefaultParallelism = uint32(n)
}

// MaxParallelism sets the number of key groups, the most subtasks that a keyed
// operator can ever have: 1024 without it, at most 32768. It is fixed for the
// life of the job's state.
func (e *Env) MaxParallelism(n int) {
	if n < 1 || n > keygroup.Max {
		e.fail(fmt.Errorf("the job's max parallelism is %d: it must be from 1 to %d", n, keygroup.Max))
		return
	}
	e.g.MaxParallelism = n
}

// CheckpointEvery sets the time between checkpoints: a second without it. 0
// takes none but those that are asked for, and then transactional sinks show
// their output only when the job ends.
func (e *Env) CheckpointEvery(d time.Duration) {
	if d < 0 || d > 0 && d < 10*time.Millisecond {
		e.fail(fmt.Errorf("checkpoints every %v: 10ms is the shortest interval, 0 takes none", d))
		return
	}
	e.g.Config.CheckpointIntervalMs = d.Milliseconds()
}

// CheckpointTimeout gives up a checkpoint that is not complete by then; the job
// goes on. A minute without it.
func (e *Env) CheckpointTimeout(d time.Duration) {
	if d < 10*time.Millisecond {
		e.fail(fmt.Errorf("checkpoint timeout %v: it must be at least 10ms", d))
		return
	}
	e.g.Config.CheckpointTimeoutMs = d.Milliseconds()
}

// RetainCheckpoints sets how many completed checkpoints are kept: 1 without it.
func (e *Env) RetainCheckpoints(n int) {
	if n < 1 {
		e.fail(fmt.Errorf("%d retained checkpoints: at least 1 is needed to recover", n))
		return
	}
	e.g.Config.RetainedCheckpoints = uint32(n)
}

// TolerateFailedCheckpoints makes the job restart when more than n checkpoints
// have failed one after the other. Without it, and with 0, any number may fail:
// the job goes on, and sinks show its output with the next that completes.
// Savepoints do not count.
func (e *Env) TolerateFailedCheckpoints(n int) {
	if n < 0 {
		e.fail(fmt.Errorf("%d tolerated checkpoint failures: it must be at least 0, which is without limit", n))
		return
	}
	e.g.Config.TolerableCheckpointFailures = uint32(n)
}

// TieredState keeps keyed state in memory up to a number of bytes a slot, and
// the rest on the task manager's disk; 0 leaves the share of the slot's memory to
// the cluster. Without it all keyed state is in memory. Checkpoints are the same
// either way, and one may be restored the other way.
func (e *Env) TieredState(bytesPerSlot int64) {
	if bytesPerSlot != 0 && bytesPerSlot < 1<<20 {
		e.fail(fmt.Errorf("%d bytes of memory for state in a slot: it must be 0 or at least 1 MiB", bytesPerSlot))
		return
	}
	e.g.Config.StateBackend, e.g.Config.StateMemoryBytes = job.BackendTiered, uint64(bytesPerSlot)
}

// HangTimeout is how long one call of the job's code may take, a minute without
// it: a task that is at one place of its code for so long has failed (task-hung,
// with its stack), and the job restarts. Waiting for room behind a slow operator
// does not count, and a batch of many slow calls has ten times as long. 0 lets a
// call take any time.
func (e *Env) HangTimeout(d time.Duration) {
	switch {
	case d == 0:
		e.g.Config.HangTimeoutMs = -1
	case d < time.Second:
		e.fail(fmt.Errorf("hang timeout %v: it must be at least 1s, or 0 for none", d))
	default:
		e.g.Config.HangTimeoutMs = d.Milliseconds()
	}
}

// Set records a setting for people: the REST API shows it with the job.
func (e *Env) Set(key, value string) { e.g.Config.User[key] = value }

// Restart says what happens after a failure; see RestartWithBackoff, which is
// the default (without limit on a cluster, three times by hand), RestartAfter,
// RestartAtRate and NoRestart. What a restart cannot mend ends the job at once: a stream that
// is missing, a record that does not decode, state that does not fit.
func (e *Env) Restart(r RestartStrategy) {
	if r.pb == nil {
		e.fail(errors.New("restart strategy: use RestartWithBackoff, RestartAfter, RestartAtRate or NoRestart"))
		return
	}
	e.g.Config.Restart = r.pb
}

// RestartStrategy is made by RestartWithBackoff, RestartAfter, RestartAtRate and
// NoRestart.
type RestartStrategy struct{ pb *pb.RestartStrategy }

// restartReset is how long a job must have run for its next failure to be the
// first again. It is short, so that kills now and then cost no delay.
const restartReset = 10 * time.Second

// RestartWithBackoff restarts at once, then after delays that begin at 100 ms
// and double to at most a minute; ten seconds without a failure begin anew.
// attempts bounds the restarts in a row; 0 is without limit.
func RestartWithBackoff(attempts int) RestartStrategy {
	return RestartStrategy{&pb.RestartStrategy{
		Kind:           pb.RestartStrategy_KIND_EXPONENTIAL,
		InitialDelayMs: 100,
		MaxDelayMs:     time.Minute.Milliseconds(),
		Multiplier:     2,
		ResetMs:        restartReset.Milliseconds(),
		MaxAttempts:    uint32(max(0, attempts)),
	}}
}

// RestartAfter restarts after the same delay each time, at most attempts times
// in a row; 0 is without limit.
func RestartAfter(delay time.Duration, attempts int) RestartStrategy {
	return RestartStrategy{&pb.RestartStrategy{
		Kind:           pb.RestartStrategy_KIND_FIXED,
		InitialDelayMs: delay.Milliseconds(),
		MaxDelayMs:     delay.Milliseconds(),
		Multiplier:     1,
		ResetMs:        restartReset.Milliseconds(),
		MaxAttempts:    uint32(max(0, attempts)),
	}}
}

// RestartAtRate restarts after the same delay each time, unless there were as
// many failures as that within the interval already: then the job ends.
func RestartAtRate(failures int, interval, delay time.Duration) RestartStrategy {
	return RestartStrategy{&pb.RestartStrategy{
		Kind:           pb.RestartStrategy_KIND_RATE,
		InitialDelayMs: delay.Milliseconds(),
		RateIntervalMs: interval.Milliseconds(),
		MaxAttempts:    uint32(max(1, failures)),
	}}
}

// NoRestart lets the first failure end the job.
func NoRestart() RestartStrategy {
	return RestartStrategy{&pb.RestartStrategy{Kind: pb.RestartStrategy_KIND_NONE}}
}
