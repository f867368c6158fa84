package job

import pb "github.com/millrace/millrace/proto/millrace/v1"

// Event is what happened: the input of Master.Step.
type Event interface{ event() }

// Token pairs an action with the event that answers it.
type Token uint64

// RequestID pairs a user's request with its Answer. The driver chooses it.
type RequestID uint64

type (
	// Submitted is the first event of a job whose JobSubmitted record has
	// just been journalled.
	Submitted struct{}

	// Recovered is the first event of a job that a new leader took over.
	Recovered struct{}

	// SlotsGranted answers RequestSlots: Slots[i] is the id of the task
	// manager that holds slot i. It has as many as were asked for.
	SlotsGranted struct{ Slots []string }

	// SlotsResized answers ResizeSlots: Slots are as many as were asked for. The
	// job holds what it held before as well, until KeepSlots.
	SlotsResized struct {
		Token Token
		Slots []string
	}

	// SlotsShort says how many slots are free while the job waits for more:
	// for people. It is optional and may come often.
	SlotsShort struct{ Free, TaskManagers int }

	// TaskManagerLost says that a task manager is gone with its workers and
	// slots. No WorkerExited follows for them.
	TaskManagerLost struct {
		TaskManager string
		Reason      string
	}

	// WorkerStarted: a worker has shaken hands and listens for data.
	WorkerStarted struct {
		Worker      string
		DataAddress string
		PID         int64
	}

	// WorkerExited: a worker has ended or could not be started. Exit names
	// code, signal and error; it may be nil.
	WorkerExited struct {
		Worker string
		Exit   *pb.WorkerExited
	}

	// WorkerReported passes on what a worker sent.
	WorkerReported struct {
		Worker string
		Report *pb.WorkerReport
	}

	// Journaled answers Journal.
	Journaled struct {
		Token Token
		Err   error
	}

	// ManifestWritten answers WriteManifest. After an error the object may
	// be there or not.
	ManifestWritten struct {
		Token Token
		Err   error
	}

	// ObjectsListed answers ListObjects.
	ObjectsListed struct{ Keys []string }

	// ManifestRead answers ReadManifest. An error of a damaged or missing
	// manifest fails the job; see Unusable.
	ManifestRead struct {
		Token    Token
		Manifest *pb.Manifest
		Err      error
	}

	// CancelRequested asks to end the job without a savepoint. It is answered
	// when that is durable, not when the job has ended.
	CancelRequested struct{ Request RequestID }

	// StopRequested asks for a savepoint and then the job's end; with Drain,
	// event time runs out first. It is answered when the job has ended.
	StopRequested struct {
		Request RequestID
		Drain   bool
		// Directory is a bucket prefix, empty for the default.
		Directory string
	}

	// SavepointRequested asks for a savepoint of a job that goes on.
	SavepointRequested struct {
		Request   RequestID
		Directory string
	}

	// CheckpointRequested asks for a checkpoint now; Full for one that shares
	// no object with earlier ones.
	CheckpointRequested struct {
		Request RequestID
		Full    bool
	}

	// RescaleRequested asks for another parallelism: Parallelism, unless it is
	// 0, of the operators that set none of their own, and that of Vertices by
	// id, vertex name, operator uid or operator name (see Target). It is answered
	// when all tasks run with it.
	RescaleRequested struct {
		Request     RequestID
		Parallelism int
		Vertices    map[string]int
	}

	// StreamsChanged says that a stream can be written now, or that a host of
	// shards is there again. A restart that waits for such a thing is due.
	StreamsChanged struct{}

	// Tick says that time has passed. Every event moves time; Tick is for
	// when nothing else happens by Deadline.
	Tick struct{}
)

func (Submitted) event()           {}
func (Recovered) event()           {}
func (SlotsGranted) event()        {}
func (SlotsResized) event()        {}
func (SlotsShort) event()          {}
func (TaskManagerLost) event()     {}
func (WorkerStarted) event()       {}
func (WorkerExited) event()        {}
func (WorkerReported) event()      {}
func (Journaled) event()           {}
func (ManifestWritten) event()     {}
func (ManifestRead) event()        {}
func (ObjectsListed) event()       {}
func (CancelRequested) event()     {}
func (StopRequested) event()       {}
func (SavepointRequested) event()  {}
func (CheckpointRequested) event() {}
func (RescaleRequested) event()    {}
func (StreamsChanged) event()      {}
func (Tick) event()                {}
