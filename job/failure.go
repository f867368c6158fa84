package job

import (
	"errors"
	"fmt"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Codes of the errors that the master makes itself: keys of the catalogue.
const (
	codeInternal            = "internal"
	codeJobEnded            = "job-ended"
	codeJobStopping         = "job-stopping"
	codeJobNotRunning       = "job-not-running"
	codeJobCanceled         = "job-canceled"
	codeSlotsUnavailable    = "slots-unavailable"
	codeRestartsExhausted   = "restarts-exhausted"
	codeTaskManagerLost     = "task-manager-lost"
	codeWorkerExited        = "worker-exited"
	codeWorkerUnresponsive  = "worker-unresponsive"
	codeTaskHung            = "task-hung"
	codeSinkFailed          = "sink-failed"
	codeGraphInvalid        = "graph-invalid"
	codeSavepointForeign    = "savepoint-of-another-job"
	codeStateUnmatched      = "state-unmatched"
	codeStateIncompatible   = "state-incompatible"
	codeSavepointFailed     = "savepoint-failed"
	codeBucketUnavailable   = "bucket-unavailable"
	codeParallelismTooLarge = "parallelism-too-large"
	codeStaleEpoch          = "stale-epoch"
	codeParallelismInvalid  = "parallelism-invalid"
	codeRescaleInProgress   = "rescale-in-progress"
	codeRescaleFailed       = "rescale-failed"
	codeVertexNotFound      = "vertex-not-found"
	codeSettingUnknown      = "setting-unknown"
	codeSettingInvalid      = "setting-invalid"
	codeShardClosed         = "shard-closed"
)

// Error is a failure with a code of the catalogue.
type Error struct {
	Code    string
	Message string
	// Operator, Subtask and Stack are set where user code failed.
	Operator string
	Subtask  uint32
	Stack    string
}

// ErrorOf is the error that crossed a process boundary.
func ErrorOf(e *pb.Error) *Error {
	return &Error{
		Code: e.GetCode(), Message: e.GetMessage(),
		Operator: e.GetOperator(), Subtask: e.GetSubtask(), Stack: e.GetStack(),
	}
}

func (e *Error) Error() string { return e.Message }

// Proto is the error as it crosses a process boundary.
func (e *Error) Proto() *pb.Error {
	return &pb.Error{Code: e.Code, Message: e.Message, Operator: e.Operator, Subtask: e.Subtask, Stack: e.Stack}
}

func errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Unusable marks an error after which a manifest need not be read again: it is
// damaged or gone. The driver wraps such errors with it; others are retried.
type Unusable struct {
	Code string
	Err  error
}

func (u *Unusable) Error() string { return u.Err.Error() }
func (u *Unusable) Unwrap() error { return u.Err }

// EpochTaken is the driver's answer to the record of an attempt whose epoch is
// not above all that the journal has for jobs of the same lineage: the record is
// not there, and a higher epoch is to be tried.
type EpochTaken struct {
	Highest uint64
}

func (e *EpochTaken) Error() string {
	return fmt.Sprintf("a job of the same lineage has had epoch %d", e.Highest)
}

// fatal are the codes of failures that a restart cannot mend.
var fatal = map[string]bool{
	"plan-differs":          true,
	"protocol-mismatch":     true,
	"binary-not-found":      true,
	"binary-not-executable": true,
	"binary-wrong-platform": true,
	"binary-without-sdk":    true,
	"build-failed":          true,
	"arguments-invalid":     true,
	"snapshot-corrupt":      true,
	"snapshot-truncated":    true,
	"snapshot-missing":      true,
	"savepoint-not-found":   true,
	codeSavepointForeign:    true,
	codeStateUnmatched:      true,
	codeStateIncompatible:   true,
	codeGraphInvalid:        true,
	codeParallelismTooLarge: true,
	// What is in a stream, and that there is one, is the same the next time.
	"stream-not-found":   true,
	"stream-deleted":     true,
	"record-not-decoded": true,
	// What a sink's target refuses, it refuses again.
	"output-refused": true,
}

// mendedByStreams are the codes of failures that StreamsChanged may have mended.
var mendedByStreams = map[string]bool{
	"shard-unavailable": true,
	"not-owner":         true,
	"stream-busy":       true,
	"stream-no-hosts":   true,
}

// Exception is one failure in a job's history.
type Exception struct {
	At    time.Time
	Epoch uint64
	Error *pb.Error
	// Task is vertex name and subtask, empty for a failure that is not a
	// task's.
	Task        string
	VertexID    string
	Worker      string
	TaskManager string
	// Uncounted: the restart strategy does not count it.
	Uncounted bool
}

func protoError(err error) *pb.Error {
	var e *Error
	if errors.As(err, &e) {
		return e.Proto()
	}
	var u *Unusable
	if errors.As(err, &u) {
		return &pb.Error{Code: u.Code, Message: err.Error()}
	}
	return &pb.Error{Code: codeInternal, Message: err.Error()}
}
