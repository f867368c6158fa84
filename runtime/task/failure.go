package task

import (
	"errors"
	"fmt"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// CodeUserCode is the code of failures that carry none of their own.
const CodeUserCode = "user-code-failed"

// Failure is why a task ended: an error or panic in the code of an operator.
type Failure struct {
	Operator string
	Subtask  int
	// Stack is that of a panic, empty for an error.
	Stack string
	Err   error
}

func (f *Failure) Error() string {
	return fmt.Sprintf("operator %s, subtask %d: %v", f.Operator, f.Subtask, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// Coded is an error that knows its code in the catalogue.
type Coded interface {
	error
	Code() string
}

// ErrorOf is an error as it goes to the job master.
func ErrorOf(err error, otherwise string) *pb.Error {
	if err == nil {
		return nil
	}
	out := &pb.Error{Code: otherwise, Message: err.Error()}
	if c, ok := errors.AsType[Coded](err); ok {
		out.Code = c.Code()
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		out.Operator, out.Subtask, out.Stack = f.Operator, uint32(f.Subtask), f.Stack
		out.Message = f.Err.Error()
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
