package blob_test

import (
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"errors"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/blob/blobtest"
	"github.com/millrace/millrace/blob/faulty"
)

func openMemory(*testing.T) (blob.Bucket, blob.Bucket) { return blob.NewMemory(), nil }

// openFile returns two openings of one folder, as two processes have.
func openFile(t testing.TB) (blob.Bucket, blob.Bucket) {
	dir := t.TempDir()
	var handles [2]blob.Bucket
	for i := range handles {
		b, err := blob.OpenFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		handles[i] = b
	}
	return handles[0], handles[1]
}

// startS3 runs an S3 store in this process and returns its URL parameters.
func startS3(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	handler := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return "?insecure=true&region=us-east-1&endpoint=" + strings.TrimPrefix(server.URL, "http://")
}

func openS3(t *testing.T) (blob.Bucket, blob.Bucket) {
	params := startS3(t, nil)
	b, err := blob.Open(t.Context(), "s3://bucket/some/prefix"+params)
	if err != nil {
		t.Fatal(err)
	}
	again, err := blob.Open(t.Context(), b.URL())
	if err != nil {
		t.Fatal(err)
	}
	return b, again
}

func TestMemory(t *testing.T) { blobtest.Run(t, openMemory) }

func TestFile(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) (blob.Bucket, blob.Bucket) { return openFile(t) })
}

func TestS3(t *testing.T) { blobtest.Run(t, openS3) }

func TestSlowBucketConforms(t *testing.T) {
	blobtest.Run(t, func(*testing.T) (blob.Bucket, blob.Bucket) {
		return faulty.New(blob.NewMemory(), 1, faulty.Rule{Chance: 0.1, Kind: faulty.Slow, Delay: time.Microsecond}), nil
	})
}

// Whatever fails, and whether it happened or not, objects stay whole.
func TestFaultsLeaveObjectsWhole(t *testing.T) {
	rules := []faulty.Rule{
		{Ops: faulty.Writes, Chance: 0.2, Kind: faulty.LoseReply},
		{Chance: 0.2, Kind: faulty.Fail},
	}
	seed := rand.Uint64()
	for name, open := range map[string]func(*testing.T) (blob.Bucket, blob.Bucket){
		"memory": openMemory, "s3": openS3,
		"file": func(t *testing.T) (blob.Bucket, blob.Bucket) { return openFile(t) },
	} {
		t.Run(name, func(t *testing.T) {
			b, sound := open(t)
			if sound == nil {
				sound = b
			}
			f := faulty.New(b, seed, rules...)
			blobtest.RunFaults(t, f, sound, seed, 200)
			if ops, hits := f.Counts(); hits < ops/5 {
				t.Errorf("seed %d: %d faults in %d operations", seed, hits, ops)
			}
		})
	}
}

// ignoreConditions is a store such as there are many: it does not know the
// conditional headers.
func ignoreConditions(header string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del(header)
			next.ServeHTTP(w, r)
		})
	}
}

func TestS3RefusesStoresWithoutConditions(t *testing.T) {
	for _, header := range []string{"If-None-Match", "If-Match"} {
		_, err := blob.Open(t.Context(), "s3://bucket"+startS3(t, ignoreConditions(header)))
		if !errors.Is(err, blob.ErrUnfit) {
			t.Errorf("store that ignores %s: got %v, want ErrUnfit", header, err)
		}
	}
}

// loseReplies answers 500 to the first try of each conditional PUT that
// succeeded, as a proxy that timed out would; the client then tries again.
func loseReplies(next http.Handler) http.Handler {
	lost := map[string]bool{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Amz-Meta-Millrace-Nonce")
		if id == "" || lost[id] {
			next.ServeHTTP(w, r)
			return
		}
		lost[id] = true
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		http.Error(w, "timed out", http.StatusInternalServerError)
	})
}

func TestS3SettlesLostReplies(t *testing.T) {
	b, err := blob.Open(t.Context(), "s3://bucket/p"+startS3(t, loseReplies)+"&tested=true")
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.PutIfAbsent(t.Context(), "k", []byte("1"))
	if err != nil {
		t.Fatalf("PutIfAbsent that met itself: %v", err)
	}
	if _, err := b.CompareAndSwap(t.Context(), "k", v, []byte("2")); err != nil {
		t.Fatalf("CompareAndSwap that met itself: %v", err)
	}
	if _, err := b.CompareAndSwap(t.Context(), "k", v, []byte("3")); !errors.Is(err, blob.ErrConflict) {
		t.Fatalf("CompareAndSwap of an old version: %v", err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, location := range []string{dir + "/a", "file://" + dir + "/b c"} {
		b, err := blob.Open(t.Context(), location)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), "k", strings.NewReader("x"), -1); err != nil {
			t.Fatal(err)
		}
		again, err := blob.Open(t.Context(), b.URL())
		if err != nil {
			t.Fatal(err)
		}
		if data, _, err := again.Get(t.Context(), "k", 0, -1); string(data) != "x" {
			t.Errorf("%s reopened as %s: %q, %v", location, b.URL(), data, err)
		}
		b.Close()
		again.Close()
	}
	one, _ := blob.Open(t.Context(), "mem://meeting")
	two, _ := blob.Open(t.Context(), one.URL())
	if one != two {
		t.Error("two openings of a named memory bucket differ")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	for _, location := range []string{"", "ftp://x", "file://host/x", "s3://", "s3://bucket", "s3://bucket?colour=red"} {
		if _, err := blob.Open(t.Context(), location); err == nil {
			t.Errorf("Open(%q) succeeded", location)
		}
	}
}
