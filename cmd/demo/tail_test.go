package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// closed is a request body as the SDK leaves it behind once the answer came.
type closed struct{ *bytes.Reader }

func (closed) WriteTo(io.Writer) (int64, error) { return 0, io.EOF }
func (closed) Close() error                     { return nil }

func TestAnswersOutliveTheBodiesOfTheirRequests(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	client := plainBodies{srv.Client()}
	for range 10 {
		r, err := http.NewRequest(http.MethodPost, srv.URL, closed{bytes.NewReader([]byte("records"))})
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = 7
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || string(got) != "records" {
			t.Errorf("answer %q (%v), want the body of the request", got, err)
		}
		res.Body.Close()
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want one that is used again", n)
	}
}
