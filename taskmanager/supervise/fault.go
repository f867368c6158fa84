package supervise

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Codes of this package in the error catalogue.
const (
	CodeInternal            = "internal"
	CodeShuttingDown        = "shutting-down"
	CodeDiskFull            = "disk-full"
	CodeProtocolMismatch    = "protocol-mismatch"
	CodeLogNotFound         = "log-not-found"
	CodeBinaryNotFound      = "binary-not-found"
	CodeBinaryNotExecutable = "binary-not-executable"
	CodeBinaryWrongPlatform = "binary-wrong-platform"
	CodeBinaryWithoutSDK    = "binary-without-sdk"
	CodeBinaryCorrupt       = "binary-corrupt"
	CodeBucketUnavailable   = "bucket-unavailable"
	CodeBuildFailed         = "build-failed"
	CodePlanDiffers         = "plan-differs"
	CodePlanTimedOut        = "plan-timed-out"
	CodeWorkerExited        = "worker-exited"
	CodeWorkerUnresponsive  = "worker-unresponsive"
	CodeWorkerHung          = "worker-hung"
	CodeWorkerStartFailed   = "worker-start-failed"
	CodeMemoryExceeded      = "memory-exceeded"
)

// Fault is an error that crosses to the job manager.
type Fault struct {
	Code    string
	Message string
	// Operator, Subtask and Stack are set where the job's own code failed.
	Operator string
	Subtask  uint32
	Stack    string
	Err      error
}

func (f *Fault) Error() string { return f.Message }
func (f *Fault) Unwrap() error { return f.Err }

// ErrorCode is the key in the catalogue.
func (f *Fault) ErrorCode() string { return f.Code }

// Is matches another *Fault of the same code.
func (f *Fault) Is(target error) bool {
	t, ok := target.(*Fault)
	return ok && t.Code == f.Code
}

// faultf makes a fault. A full disk is called that, whatever failed by it.
func faultf(code, format string, args ...any) *Fault {
	err := fmt.Errorf(format, args...)
	if errors.Is(err, syscall.ENOSPC) {
		code = CodeDiskFull
	}
	return &Fault{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// withTail adds the end of a process's stderr.
func (f *Fault) withTail(tail string) *Fault {
	if tail = strings.TrimSpace(tail); tail == "" || strings.Contains(f.Message, tail) {
		return f
	}
	copied := *f
	copied.Message += "; the end of its stderr:\n" + tail
	return &copied
}

// ToProto makes the wire form of any error; nil stays nil.
func ToProto(err error) *pb.Error {
	if err == nil {
		return nil
	}
	var f *Fault
	if !errors.As(err, &f) {
		return &pb.Error{Code: CodeInternal, Message: err.Error()}
	}
	return &pb.Error{Code: f.Code, Message: err.Error(), Operator: f.Operator, Subtask: f.Subtask, Stack: f.Stack}
}
