package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCatalogueRowsAreWhole(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for _, d := range Catalogue() {
		if !kebab.MatchString(string(d.Code)) {
			t.Errorf("code %q is not kebab-case", d.Code)
		}
		if d.Status < 400 || d.Status > 599 || d.Title == "" || d.Remedy == "" {
			t.Errorf("%s: status %d, title %q, remedy %q: want all set", d.Code, d.Status, d.Title, d.Remedy)
		}
	}
}

func TestErrorCrossesProcessAndHTTP(t *testing.T) {
	e := Errorf(UserFunctionPanic, "operator %q subtask %d: boom", "parse", 3)
	e.Operator, e.Subtask, e.Stack = "parse", 3, "main.parse"

	back := FromProto(e.Proto())
	if diff := cmp.Diff(e, back); diff != "" {
		t.Errorf("through pb.Error (-want +got):\n%s", diff)
	}

	w := httptest.NewRecorder()
	WriteError(w, fmt.Errorf("run job: %w", e))
	if w.Code != 500 {
		t.Errorf("status %d, want 500", w.Code)
	}
	var body Body
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	if len(body.Errors) != 1 || body.Code != UserFunctionPanic || body.Detail != `run job: operator "parse" subtask 3: boom` {
		t.Errorf("body = %+v", body)
	}
	got := body.Error()
	if got.Code != e.Code || got.Operator != "parse" || got.Subtask != 3 || got.Remedy == "" {
		t.Errorf("client's error = %+v", got)
	}
}

func TestFromKeepsWhatItWraps(t *testing.T) {
	e := Errorf(BucketUnavailable, "write journal record 7: %w", io.ErrUnexpectedEOF)
	if !errors.Is(e, io.ErrUnexpectedEOF) {
		t.Error("the cause of the error is lost")
	}
	wrapped := fmt.Errorf("take over: %w", e)
	if !errors.Is(From(wrapped), &Error{Code: BucketUnavailable}) || !errors.Is(From(wrapped), io.ErrUnexpectedEOF) {
		t.Errorf("From(%v) lost code or cause", wrapped)
	}
	if c := CodeOf(io.EOF); c != Internal {
		t.Errorf("code of a foreign error = %s, want %s", c, Internal)
	}
	if CodeOf(nil) != "" || From(nil) != nil {
		t.Error("nil has a code")
	}
}

func TestUnknownCodeIsShownAsItself(t *testing.T) {
	d, ok := Lookup("from-the-future")
	if ok || d.Code != "from-the-future" || d.Status != 500 {
		t.Errorf("Lookup = %+v, %v", d, ok)
	}
}
