package rig

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// What REST refuses is told in its own words, not as JSON.
func TestARefusedRequestSaysWhy(t *testing.T) {
	for answer, want := range map[string]string{
		`{"errors":["no such job","look again"],"status":404}`: "GET /x: 404 Not Found: no such job; look again",
		`{"status":404}`: `GET /x: 404 Not Found: {"status":404}`,
		"gone":           "GET /x: 404 Not Found: gone",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, answer)
		}))
		err := REST{Base: server.URL}.Do(t.Context(), http.MethodGet, "/x", "", nil, nil)
		server.Close()
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", answer, err, want)
		}
	}
}
