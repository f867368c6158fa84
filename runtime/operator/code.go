package operator

import "errors"

// Codes of the error catalogue for connectors whose errors bring none.
const (
	codeSource   = "source-failed"
	codeSink     = "sink-failed"
	codePanicked = "user-function-panicked"
)

// coded is an error with a code of the catalogue.
type coded struct {
	code string
	err  error
}

func (e *coded) Error() string     { return e.err.Error() }
func (e *coded) Unwrap() error     { return e.err }
func (e *coded) ErrorCode() string { return e.code }

// withCode gives an error a code, unless a cause of it has one.
func withCode(code string, err error) error {
	var has interface{ ErrorCode() string }
	if err == nil || errors.As(err, &has) {
		return err
	}
	return &coded{code, err}
}
