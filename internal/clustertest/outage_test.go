//go:build linux

package clustertest

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// store is an S3 store that can be made to be away.
type store struct {
	handler http.Handler
	mu      sync.Mutex
	// back is closed when an outage ends, nil while there is none.
	back chan struct{}
	// silent: requests get no answer before the end, instead of 503 at once.
	silent  bool
	refused int
}

func startStore(t *testing.T) (s *store, url string) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	s = &store{handler: gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(func() {
		s.heal()
		server.CloseClientConnections()
		server.Close()
	})
	return s, "s3://bucket/cluster?insecure=true&region=us-east-1&endpoint=" + strings.TrimPrefix(server.URL, "http://")
}

func (s *store) fail(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back, s.silent, s.refused = make(chan struct{}), silent, 0
}

// heal ends the outage and says how many requests met it.
func (s *store) heal() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back != nil {
		close(s.back)
	}
	s.back = nil
	return s.refused
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	back, silent := s.back, s.silent
	if back != nil {
		s.refused++
	}
	s.mu.Unlock()
	switch {
	case back == nil:
		s.handler.ServeHTTP(w, r)
	case silent:
		select {
		case <-back:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler) // the connection breaks without an answer
	default:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>`)
	}
}

// completed is how many checkpoints of a job are complete.
func (r rest) completed(t *testing.T, id string) int {
	t.Helper()
	var out struct {
		Counts struct {
			Completed int `json:"completed"`
		} `json:"counts"`
	}
	if err := r.get(t.Context(), "/jobs/"+id+"/checkpoints", &out); err != nil {
		t.Fatal(err)
	}
	return out.Counts.Completed
}

// A bucket that is away for a minute costs a minute of visible output and no
// restart: tasks go on, and the first checkpoint after it holds everything.
func TestABucketOutageOfAMinute(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]bool{"it answers 503": false, "it does not answer": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bucket, url := startStore(t)
			up, r, at := startUp(t, filepath.Join(t.TempDir(), "data"), "--bucket", url)
			mustRun(t, "stream", "create", "flights", "--kinesis", up.ready["kinesis"])
			id := submit(t, r, 2, "delays")
			input := newFeeder(at, "flights")
			feed(t, input, 0, 0.3)
			awaitTaken(t, r, id, int(0.3*float64(len(flights()))))
			r.awaitCheckpoint(t, id, time.Now())

			bucket.fail(silent)
			began := time.Now()
			outage := time.NewTimer(time.Minute)
			defer outage.Stop()
			// What had begun may still complete, nothing after it.
			feed(t, input, 0.3, 0.4)
			before := r.completed(t, id)
			feed(t, input, 0.4, 0.7)
			awaitTaken(t, r, id, int(0.7*float64(len(flights())))) // tasks run on
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("records fed during the outage were taken after %v", took)
			}
			<-outage.C
			d, err := r.job(t.Context(), id)
			if err != nil || !d.running() || d.Epoch != 1 || d.Restarts != 0 {
				t.Errorf("after a minute the job is %v (%v), want it running in its first attempt", d, err)
			}
			if n := r.completed(t, id); n != before {
				t.Errorf("%d checkpoints completed during the outage", n-before)
			}
			if n := bucket.heal(); n == 0 {
				t.Error("nothing asked the store during the outage: there was none")
			}
			healed := time.Now()
			eventually(t, "a checkpoint after the outage", func() (bool, string) {
				n := r.completed(t, id)
				return n > before, fmt.Sprint(n)
			})
			t.Logf("the first checkpoint is complete %v after the end of the outage", time.Since(healed))
			if took := time.Since(healed); took > 10*time.Second {
				t.Errorf("the first checkpoint was complete %v after the end of the outage", took)
			}
			feed(t, input, 0.7, 1)
			drain(t, r, id)
			checkOutput(t, at, "delays")
			if all, err := r.exceptions(t.Context(), id); err != nil || len(all) != 0 {
				t.Errorf("exceptions %v, %v", all, err)
			}
		})
	}
}
