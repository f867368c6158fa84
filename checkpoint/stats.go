package checkpoint

import (
	"math"
	"slices"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Status is how far a checkpoint is.
type Status uint8

// The states of a checkpoint for people.
const (
	InProgress Status = iota
	Completed
	Failed
)

func (s Status) String() string {
	return [...]string{"IN_PROGRESS", "COMPLETED", "FAILED"}[s]
}

// Stats describes one checkpoint. Values that were not reported are absent.
type Stats struct {
	ID        ID
	Epoch     uint64
	Status    Status
	Savepoint bool
	Terminal  bool
	// Halt: tasks stopped at it, for another parallelism.
	Halt bool
	// Early: begun because output was held or tasks began, not by the period.
	Early     bool
	Triggered time.Time
	// LatestAck is zero before the first ack.
	LatestAck time.Time
	// Ended is when the journal had it, or it failed.
	Ended time.Time
	// Committed is when all sinks had committed it; zero where none did.
	Committed time.Time
	// Manifest and Path name it; Discarded once retention took it away.
	Manifest  string
	Path      string
	Discarded bool
	Failure   *pb.Error
	// Bytes that were written for it, and bytes of state that it covers.
	CheckpointedSize uint64
	StateSize        uint64
	// Subtasks is how many take part, Acknowledged how many have.
	Subtasks     int
	Acknowledged int
	// Tasks are by vertex id, then in the order of arrival.
	Tasks map[string][]TaskStats
}

// TaskStats is what one subtask reported of one checkpoint.
type TaskStats struct {
	Subtask          int
	Ack              time.Time
	Alignment        time.Duration
	Sync             time.Duration
	Async            time.Duration
	StartDelay       time.Duration
	CheckpointedSize uint64
	StateSize        uint64
}

// Duration is from trigger to the end, or to now for one in progress.
func (s Stats) Duration(now time.Time) time.Duration {
	if s.Ended.IsZero() {
		return now.Sub(s.Triggered)
	}
	return s.Ended.Sub(s.Triggered)
}

// MaxHistory bounds the checkpoints that History keeps.
const MaxHistory = 10

// History is what is known of a job's checkpoints by this leader.
type History struct {
	Counts Counts
	// Recent goes from the newest to the oldest, at most MaxHistory.
	Recent []Stats
	// The latest of each kind, nil where there was none.
	LatestCompleted *Stats
	LatestSavepoint *Stats
	LatestFailed    *Stats
	Restored        *Restored
	// Summaries over the completed ones that a window of samples holds.
	StateSize        Summary
	CheckpointedSize Summary
	Duration         Summary
}

// Counts are totals since the job was submitted or its leader took over.
type Counts struct {
	Restored, Total, InProgress, Completed, Failed int
}

// Restored names the checkpoint that the present attempt began from.
type Restored struct {
	ID        ID
	At        time.Time
	Savepoint bool
	Path      string
}

// Summary describes samples; all is 0 with Count 0, which means unknown.
type Summary struct {
	Count                    int
	Min, Max, Avg            float64
	P50, P90, P95, P99, P999 float64
}

// samples keeps the newest values of a figure in a ring.
type samples struct {
	values []float64
	next   int
}

const maxSamples = 1024

func (s *samples) add(v float64) {
	if len(s.values) < maxSamples {
		s.values = append(s.values, v)
		return
	}
	s.values[s.next] = v
	s.next = (s.next + 1) % maxSamples
}

func (s *samples) summary() Summary {
	if len(s.values) == 0 {
		return Summary{}
	}
	sorted := slices.Sorted(slices.Values(s.values))
	sum := 0.0
	for _, v := range sorted {
		sum += v
	}
	// Nearest rank.
	at := func(q float64) float64 {
		i := int(math.Ceil(q*float64(len(sorted)))) - 1
		return sorted[max(i, 0)]
	}
	return Summary{
		Count: len(sorted), Min: sorted[0], Max: sorted[len(sorted)-1], Avg: sum / float64(len(sorted)),
		P50: at(.5), P90: at(.9), P95: at(.95), P99: at(.99), P999: at(.999),
	}
}
