//go:build linux

package chaos

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// objects is an S3 store that the run makes fail.
type objects struct {
	backend http.Handler
	mu      struct {
		sync.Mutex
		rng    *rand.Rand
		fault  Kind // none when empty
		faults uint64
	}
}

// objectsBucket is the one bucket of the store.
const objectsBucket = "chaos"

// credentials of the store, which it does not look at.
var credentials = map[string]string{"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos-secret"}

func newObjects(seed uint64) (*objects, error) {
	backend := s3mem.New()
	if err := backend.CreateBucket(objectsBucket); err != nil {
		return nil, err
	}
	o := &objects{backend: gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()}
	o.mu.rng = rand.New(rand.NewPCG(seed, 2))
	return o, nil
}

// set makes requests fail in a way, or not any more.
func (o *objects) set(k Kind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.fault = k
}

// draw says what becomes of one request.
func (o *objects) draw() (k Kind, slow time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.mu.fault {
	case BucketErrors, BucketReplies:
		if o.mu.rng.IntN(2) == 0 {
			return "", 0
		}
	case BucketSlow:
		slow = time.Duration(o.mu.rng.Int64N(int64(600 * time.Millisecond)))
	}
	if o.mu.fault != "" {
		o.mu.faults++
	}
	return o.mu.fault, slow
}

func (o *objects) hits() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.faults
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch k, slow := o.draw(); k {
	case BucketErrors:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>chaos</Message></Error>`))
	case BucketReplies:
		o.backend.ServeHTTP(httptest.NewRecorder(), r)
		hangUp(w)
	case BucketAway:
		hangUp(w)
	case BucketSlow:
		select {
		case <-time.After(slow):
		case <-r.Context().Done():
		}
		o.backend.ServeHTTP(w, r)
	default:
		o.backend.ServeHTTP(w, r)
	}
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}
