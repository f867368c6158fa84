package task

import (
	"errors"
	"fmt"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Codes of failures that carry none of their own.
const (
	codeFailed   = "user-function-failed"
	codePanicked = "user-function-panicked"
)

// errHung is why a task fails whose mailbox does not turn.
var errHung error = hung{}

type hung struct{}

func (hung) Error() string     { return "the mailbox does not turn" }
func (hung) ErrorCode() string { return "task-hung" }

// Failure is why a task ended: an error or panic in the code of an operator.
type Failure struct {
	Operator string
	Subtask  int
	// Stack is that of a panic or of a task that hangs, empty for an error.
	Stack string
	Err   error
}

func (f *Failure) Error() string {
	return fmt.Sprintf("operator %s, subtask %d: %v", f.Operator, f.Subtask, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// coded is an error that knows its code in the catalogue.
type coded interface {
	error
	ErrorCode() string
}

// about is an error that says what it is about, which the master may have to
// know.
type about interface {
	error
	ErrorSubject() string
}

// ErrorOf is an error as it goes to the job master. Its code is the error's own
// if it has one, else that of a failure of user code, else the one given.
func ErrorOf(err error, otherwise string) *pb.Error {
	if err == nil {
		return nil
	}
	out := &pb.Error{Code: otherwise, Message: err.Error()}
	if f, ok := errors.AsType[*Failure](err); ok {
		out.Operator, out.Subtask, out.Stack = f.Operator, uint32(f.Subtask), f.Stack
		out.Message, out.Code = f.Err.Error(), codeFailed
		if f.Stack != "" {
			out.Code = codePanicked
		}
	}
	if c, ok := errors.AsType[coded](err); ok {
		out.Code = c.ErrorCode()
	}
	if a, ok := errors.AsType[about](err); ok {
		out.Subject = a.ErrorSubject()
	}
	return out
}

// panicked is a recovered panic as an error.
func panicked(v any) error {
	if err, ok := v.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic: %v", v)
}
