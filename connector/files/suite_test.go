package files_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/blob/faulty"
	"github.com/millrace/millrace/connector/files"
	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type row struct {
	N int `json:"n"`
}

func (r row) partition() string { return fmt.Sprintf("mod=%d/x", r.N%3) }

// startS3 runs an S3 store in this process and returns its URL parameters.
func startS3(t *testing.T) string {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	return "?insecure=true&region=us-east-1&endpoint=" + strings.TrimPrefix(server.URL, "http://")
}

// faults makes the n-th operation from now and all later ones of a bucket fail.
type faults struct {
	blob.Bucket
	left atomic.Int64
}

func (f *faults) Fail(n int) { f.left.Store(int64(n)) }

func (f *faults) step() error {
	switch n := f.left.Load(); {
	case n == 1:
		return faulty.ErrInjected
	case n > 1:
		f.left.CompareAndSwap(n, n-1)
	}
	return nil
}

func (f *faults) Get(ctx context.Context, key string, offset, length int64) ([]byte, blob.Version, error) {
	if err := f.step(); err != nil {
		return nil, "", err
	}
	return f.Bucket.Get(ctx, key, offset, length)
}

func (f *faults) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.Bucket.Put(ctx, key, r, size)
}

func (f *faults) PutIfAbsent(ctx context.Context, key string, data []byte) (blob.Version, error) {
	if err := f.step(); err != nil {
		return "", err
	}
	return f.Bucket.PutIfAbsent(ctx, key, data)
}

func (f *faults) CompareAndSwap(ctx context.Context, key string, old blob.Version, data []byte) (blob.Version, error) {
	if err := f.step(); err != nil {
		return "", err
	}
	return f.Bucket.CompareAndSwap(ctx, key, old, data)
}

func (f *faults) List(ctx context.Context, prefix string, g func(blob.Info) error) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.Bucket.List(ctx, prefix, g)
}

func (f *faults) Delete(ctx context.Context, key string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.Bucket.Delete(ctx, key)
}

func (f *faults) Move(ctx context.Context, from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	return blob.Move(ctx, f.Bucket, from, to)
}

// read returns the rows of all published files, in the order of their names, and
// the number of parts that are staged.
func read(ctx context.Context, b blob.Bucket) (rows []row, staged int, err error) {
	var keys []string
	err = b.List(ctx, "", func(i blob.Info) error {
		switch {
		case !strings.HasPrefix(i.Key, ".staged/"):
			keys = append(keys, i.Key)
		case !strings.HasSuffix(i.Key, "/ledger"):
			staged++
		}
		return nil
	})
	for _, key := range keys {
		data, _, err := b.Get(ctx, key, 0, -1)
		if err != nil {
			return nil, 0, err
		}
		if strings.HasSuffix(key, ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				return nil, 0, fmt.Errorf("%s: %w", key, err)
			}
			if data, err = io.ReadAll(z); err != nil {
				return nil, 0, fmt.Errorf("%s: %w", key, err)
			}
		}
		text, whole := strings.CutSuffix(string(data), "\n")
		if !whole {
			return nil, 0, fmt.Errorf("%s does not end with a line: %q", key, data)
		}
		for line := range strings.SplitSeq(text, "\n") {
			var r row
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return nil, 0, fmt.Errorf("%s: %q: %w", key, line, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, staged, err
}

// TestTheSinkKeepsItsPromises runs the suite of transactional sinks: plain and
// compressed, with partitions, with parts that roll and parts that are streamed.
func TestTheSinkKeepsItsPromises(t *testing.T) {
	locations := atomic.Int64{}
	target := func(t *testing.T, b blob.Bucket, change func(files.Parts[row]) files.Parts[row]) sinktest.Target[row] {
		f := &faults{Bucket: b}
		location := fmt.Sprintf("test-%d", locations.Add(1))
		release := files.Adopt(location, f)
		t.Cleanup(func() { release() })
		return sinktest.Target[row]{
			Sink: func() sdk.Sink[row] {
				return change(files.Sink(location, files.JSON[row]()).Impatient())
			},
			Record: func(n int) row { return row{n} },
			Visible: func(ctx context.Context) (all []int, err error) {
				rows, _, err := read(ctx, b)
				for _, r := range rows {
					all = append(all, r.N)
				}
				return all, err
			},
			Garbage: func(ctx context.Context) (int, error) {
				_, staged, err := read(ctx, b)
				return staged, err
			},
			Fail: f.Fail,
		}
	}
	plain := func(p files.Parts[row]) files.Parts[row] { return p }
	t.Run("memory", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) sinktest.Target[row] {
			return target(t, blob.NewMemory(), plain)
		}, sinktest.Options{Seeds: 200})
	})
	t.Run("partitions", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) sinktest.Target[row] {
			return target(t, blob.NewMemory(), func(p files.Parts[row]) files.Parts[row] {
				return p.PartitionBy(row.partition).RollAt(30).Gzip()
			})
		}, sinktest.Options{Seeds: 40, First: 1000})
	})
	t.Run("streamed", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) sinktest.Target[row] {
			return target(t, blob.NewMemory(), func(p files.Parts[row]) files.Parts[row] {
				return p.PartitionBy(row.partition).Streamed(30)
			})
		}, sinktest.Options{Seeds: 100, First: 2000})
	})
	t.Run("folder", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) sinktest.Target[row] {
			b, err := blob.OpenFile(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return target(t, b, plain)
		}, sinktest.Options{Seeds: 10, First: 3000})
	})
	t.Run("s3", func(t *testing.T) {
		params := startS3(t)
		n := 0
		sinktest.Run(t, func(t *testing.T) sinktest.Target[row] {
			n++
			b, err := blob.Open(t.Context(), fmt.Sprintf("s3://bucket/prefix-%d%s", n, params))
			if err != nil {
				t.Fatal(err)
			}
			return target(t, b, func(p files.Parts[row]) files.Parts[row] { return p.PartitionBy(row.partition) })
		}, sinktest.Options{Seeds: 5, First: 4000})
	})
}
