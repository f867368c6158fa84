package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Error is a failure with a code of the catalogue. Its message names the
// thing that failed; the remedy says what to do.
type Error struct {
	Code    Code
	Message string
	// Remedy is the catalogue's where empty.
	Remedy string
	// Operator, Subtask and Stack are set where user code failed.
	Operator string
	Subtask  uint32
	Stack    string
	// Cause is what errors.Is and errors.As go on with; it stays in the
	// process.
	Cause error
}

// Errorf makes an error. A %w in the format sets Cause.
func Errorf(code Code, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: wrapped.Error(), Cause: errors.Unwrap(wrapped)}
}

// Error implements error with the message alone, so that wrapping it reads
// well; Text is for people.
func (e *Error) Error() string { return e.Message }

// Text is the message and its remedy.
func (e *Error) Text() string {
	if r := e.remedy(); r != "" {
		return e.Message + ". " + r
	}
	return e.Message
}

// Unwrap returns Cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is matches another *Error of the same code, so that
// errors.Is(err, &Error{Code: c}) asks for a code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// With returns a copy with another remedy.
func (e *Error) With(remedy string) *Error {
	c := *e
	c.Remedy = remedy
	return &c
}

// Status is the HTTP status of the code.
func (e *Error) Status() int {
	d, _ := Lookup(e.Code)
	return d.Status
}

func (e *Error) remedy() string {
	if e.Remedy != "" {
		return e.Remedy
	}
	d, _ := Lookup(e.Code)
	return d.Remedy
}

// Proto is the error as it crosses a process boundary.
func (e *Error) Proto() *pb.Error {
	message := e.Message
	if e.Remedy != "" {
		message += ". " + e.Remedy
	}
	return &pb.Error{Code: string(e.Code), Message: message, Operator: e.Operator, Subtask: e.Subtask, Stack: e.Stack}
}

// FromProto is the error that another process raised; nil for nil.
func FromProto(p *pb.Error) *Error {
	if p == nil {
		return nil
	}
	code := Code(p.GetCode())
	if code == "" {
		code = Internal
	}
	return &Error{Code: code, Message: p.GetMessage(), Operator: p.GetOperator(), Subtask: p.GetSubtask(), Stack: p.GetStack()}
}

// From finds the *Error in err's chain. Others become internal errors; a
// context's end becomes timed-out or shutting-down. nil stays nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		if text := err.Error(); text != e.Error() {
			// The wrapping names where it happened: keep it.
			c := *e
			c.Message, c.Cause = text, err
			return &c
		}
		return e
	}
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		return &Error{Code: Code(coded.ErrorCode()), Message: err.Error(), Cause: err}
	}
	return &Error{Code: Internal, Message: err.Error(), Cause: err}
}

// CodeOf is the code of err, Internal where it has none, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return From(err).Code
}

// Body is the JSON body of an answer that is an error: what Flink's clients
// read (errors) and the problem details of RFC 9457.
type Body struct {
	Errors   []string `json:"errors"`
	Type     string   `json:"type"`
	Title    string   `json:"title"`
	Status   int      `json:"status"`
	Detail   string   `json:"detail"`
	Code     Code     `json:"code"`
	Remedy   string   `json:"remedy,omitempty"`
	Operator string   `json:"operator,omitempty"`
	Subtask  *uint32  `json:"subtask,omitempty"`
	Stack    string   `json:"stack,omitempty"`
}

// Body renders the error for HTTP.
func (e *Error) Body() Body {
	d, _ := Lookup(e.Code)
	b := Body{
		Errors: []string{e.Text()},
		Type:   "urn:millrace:error:" + string(e.Code),
		Title:  d.Title, Status: d.Status, Detail: e.Message, Code: e.Code,
		Remedy: e.remedy(), Operator: e.Operator, Stack: e.Stack,
	}
	if e.Operator != "" {
		b.Subtask = &e.Subtask
	}
	return b
}

// Error turns a body back into the error, on the client's side.
func (b Body) Error() *Error {
	e := &Error{Code: b.Code, Message: b.Detail, Remedy: b.Remedy, Operator: b.Operator, Stack: b.Stack}
	if e.Code == "" {
		e.Code = Internal
	}
	if e.Message == "" && len(b.Errors) > 0 {
		e.Message = b.Errors[0]
	}
	if b.Subtask != nil {
		e.Subtask = *b.Subtask
	}
	return e
}

// WriteError answers an HTTP request with the error.
func WriteError(w http.ResponseWriter, err error) {
	e := From(err)
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if e.Code == Unauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="millrace"`)
	}
	w.WriteHeader(e.Status())
	// The client may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(e.Body())
}
