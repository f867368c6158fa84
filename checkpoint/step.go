package checkpoint

import (
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Event is what the coordinator is told.
type Event interface{ event() }

// Action is what the coordinator wants done.
type Action interface{ action() }

type (
	// Started: all tasks of an attempt run. Workers are in the order of
	// Deploy.workers. Full asks that the first checkpoint shares no object
	// with what the attempt was restored from: a savepoint.
	Started struct {
		Epoch    uint64
		Workers  []string
		Subtasks int
		Restored *Restored
		Full     bool
		// Graph replaces that of the configuration, as the parallelism changes;
		// nil leaves it.
		Graph *pb.JobGraph
	}

	// Stopped: the attempt is over. What was not journalled is aborted.
	Stopped struct{ Err *pb.Error }

	// Held: a transaction holds output.
	Held struct{}

	// Asked asks for a checkpoint besides the periodic ones.
	Asked struct{ Request Request }

	// Acked: all subtasks of a worker have taken part.
	Acked struct {
		Worker string
		Epoch  uint64
		Ack    *pb.CheckpointAck
	}

	// Declined: a worker could not.
	Declined struct {
		Worker string
		Epoch  uint64
		ID     ID
		Err    *pb.Error
	}

	// Written answers Write, Journaled answers Journal.
	Written struct {
		ID  ID
		Err error
	}
	Journaled struct {
		ID  ID
		Err error
	}

	// Committed: every sink has committed a completed checkpoint.
	Committed struct{ ID ID }

	// Listed answers List, as far as it went.
	Listed struct{ Keys []string }

	// Tick: time has passed.
	Tick struct{}
)

func (Started) event()   {}
func (Stopped) event()   {}
func (Held) event()      {}
func (Asked) event()     {}
func (Acked) event()     {}
func (Declined) event()  {}
func (Written) event()   {}
func (Journaled) event() {}
func (Committed) event() {}
func (Listed) event()    {}
func (Tick) event()      {}

// Request asks for one checkpoint.
type Request struct {
	// Token comes back in Answered; 0 wants no answer.
	Token     uint64
	Savepoint bool
	// Directory is where a savepoint goes, empty for the default.
	Directory string
	// Full shares no object with earlier checkpoints. Savepoints always are.
	Full bool
	// Terminal ends the job: it is tried until it completes or the attempt
	// ends, and never answered. Drained says that end of input comes before its barrier.
	Terminal bool
	Drained  bool
	// Halt has tasks take nothing in after its barrier: nothing is triggered
	// after it, and the attempt is to end, whether it completes or not. It is
	// given up after HaltTimeout.
	Halt bool
}

// mergeable requests are answered by one checkpoint.
func (r Request) mergeable(o Request) bool {
	return r.Savepoint == o.Savepoint && r.Directory == o.Directory && r.Full == o.Full && !r.Terminal && !o.Terminal && !r.Halt && !o.Halt
}

type (
	// Trigger: send this to every worker of the attempt.
	Trigger struct {
		Command *pb.TriggerCheckpoint
		Stats   Stats
	}

	// Write: write the manifest; answered by Written.
	Write struct {
		ID       ID
		Key      string
		Manifest *pb.Manifest
	}

	// Journal: append the record; answered by Journaled.
	Journal struct{ Done *pb.CheckpointDone }

	// Complete: the checkpoint is complete. With Live, its attempt still
	// runs: tell workers, commit sinks, then answer with Committed. Of a Halt
	// nobody waits for that answer: the next attempt's recovery commits it.
	Complete struct {
		Done     *pb.CheckpointDone
		Manifest *pb.Manifest
		Live     bool
		Halt     bool
		Stats    Stats
	}

	// Abort: tell every worker that the checkpoint will not complete. With
	// Live false there is nobody to tell.
	Abort struct {
		ID    ID
		Err   *pb.Error
		Live  bool
		Stats Stats
	}

	// Delete: nothing needs these objects any more.
	Delete struct{ Keys []string }

	// List: list the objects under a prefix; answered by Listed, or not at
	// all.
	List struct{ Prefix string }

	// Answered answers a Request; Err is nil on success.
	Answered struct {
		Token uint64
		ID    ID
		Path  string
		Err   *pb.Error
	}

	// GiveUp: more checkpoints in a row failed than are tolerated.
	GiveUp struct{ Err *pb.Error }
)

func (Trigger) action()  {}
func (Write) action()    {}
func (Journal) action()  {}
func (Complete) action() {}
func (Abort) action()    {}
func (Delete) action()   {}
func (List) action()     {}
func (Answered) action() {}
func (GiveUp) action()   {}

// Config of a coordinator. Zero durations are the defaults; NoPeriod turns
// periodic and early checkpoints off.
type Config struct {
	Job     string
	Lineage string
	Graph   *pb.JobGraph
	// Planned is the graph as it was submitted: Graph may have another
	// parallelism. Nil where it has the same.
	Planned *pb.JobGraph
	// Interval between the beginnings of two checkpoints (1 s), MinGap where
	// the next one is wanted early (100 ms).
	Interval, MinGap time.Duration
	NoPeriod         bool
	// Timeout of one checkpoint until its manifest is written (60 s).
	Timeout time.Duration
	// HaltTimeout bounds a halt in place of Timeout, if it is shorter (30 s).
	HaltTimeout time.Duration
	// RetryGap is kept after a failed one (1 s); after more in a row it doubles,
	// up to MaxRetryGap (5 s).
	RetryGap, MaxRetryGap time.Duration
	// Retained is how many completed checkpoints stay (1), besides savepoints.
	Retained int
	// Tolerated is how many checkpoints of an attempt may fail one after the
	// other, savepoints, terminal ones and halts left out; 0 is without limit.
	Tolerated int
	// NextID is the number of the first checkpoint; at least 1.
	NextID ID
	// Kept are the retained checkpoints, oldest first, without savepoints.
	Kept []Kept
}

// Kept is a retained checkpoint.
type Kept struct {
	Done     *pb.CheckpointDone
	Manifest *pb.Manifest
}

// DefaultTimeout is that of a checkpoint whose job sets none.
const DefaultTimeout = time.Minute

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Interval, time.Second)
	set(&c.MinGap, 100*time.Millisecond)
	set(&c.Timeout, DefaultTimeout)
	set(&c.HaltTimeout, 30*time.Second)
	set(&c.RetryGap, time.Second)
	set(&c.MaxRetryGap, 5*time.Second)
	c.Retained = max(c.Retained, 1)
	c.NextID = max(c.NextID, 1)
	return c
}
