package worker

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Codes of the catalogue that the worker gives out itself.
const (
	codeBuildFailed     = "build-failed"
	codePlanDiffers     = "plan-differs"
	codeDeployFailed    = "deploy-failed"
	codeDataPlane       = "data-plane-failed"
	codeSourceFailed    = "source-failed"
	codeSinkFailed      = "sink-failed"
	codeDeclined        = "checkpoint-declined"
	codeUnmatched       = "state-unmatched"
	codeIncompatible    = "state-incompatible"
	codeSnapshotCorrupt = "snapshot-corrupt"
	codeSnapshotMissing = "snapshot-missing"
	codeStateDisk       = "state-disk-failed"
)

// coded is an error with a code of the catalogue.
type coded struct {
	code  string
	stack string
	err   error
}

func (e *coded) Error() string     { return e.err.Error() }
func (e *coded) Unwrap() error     { return e.err }
func (e *coded) ErrorCode() string { return e.code }

func failf(code, format string, args ...any) error {
	return &coded{code: code, err: fmt.Errorf(format, args...)}
}

// protoError is an error as it goes to the master: with the code that it has,
// or that its cause means, or otherwise.
func protoError(err error, otherwise string) *pb.Error {
	if err == nil {
		return nil
	}
	var corrupt *snapshot.CorruptError
	switch {
	case errors.As(err, &corrupt):
		err = &coded{code: codeSnapshotCorrupt, err: err}
	case errors.Is(err, blob.ErrNotFound):
		err = &coded{code: codeSnapshotMissing, err: err}
	}
	out := task.ErrorOf(err, otherwise)
	if c, ok := errors.AsType[*coded](err); ok && c.stack != "" {
		out.Stack = c.stack
	}
	return out
}

// protect calls user code off the tasks' goroutines; a panic becomes an error
// with its stack.
func protect(code string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &coded{code: code, stack: string(debug.Stack()), err: fmt.Errorf("panic: %v", v)}
		}
	}()
	return f()
}
