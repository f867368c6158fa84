package kinesis

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/millrace/millrace/stream"
)

// What passes by itself is told apart from a bug: clients try both again, but
// only one is to be reported.
func TestWhatPassesIsServiceUnavailable(t *testing.T) {
	for _, kind := range []stream.Kind{stream.Unavailable, stream.NoHosts, stream.NotOwner, stream.DiskFull} {
		f := toFault(fmt.Errorf("create stream s: %w", stream.Errorf(kind, "not now")))
		if f.status != http.StatusServiceUnavailable || f.name != "ServiceUnavailable" {
			t.Errorf("%v: %d %s, want 503 ServiceUnavailable", kind, f.status, f.name)
		}
	}
	for _, err := range []error{errors.New("a bug"), stream.Errorf(stream.Corrupt, "bits"), stream.Errorf(stream.StoreFailed, "disk")} {
		if f := toFault(err); f.status != http.StatusInternalServerError || f.name != "InternalFailure" {
			t.Errorf("%v: %d %s, want 500 InternalFailure", err, f.status, f.name)
		}
	}
}

// A browser or curl on the port is told what is here in a way that reads.
func TestARequestWithoutFormatIsAnsweredInJSON(t *testing.T) {
	r := newRig(t, nil)
	res, err := http.Get(r.url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Type string `json:"__type"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || res.StatusCode != http.StatusNotFound ||
		answer.Type != unknownOperation || res.Header.Get("Content-Type") != jsonType {
		t.Errorf("GET /: %s, %s, %q (%v), want 404 and JSON", res.Status, res.Header.Get("Content-Type"), body, err)
	}
}
