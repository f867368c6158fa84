package blob

import (
	"context"
	"errors"
	"io"
)

// Errors of every Bucket, matched with errors.Is.
var (
	// ErrNotFound: no object has this key.
	ErrNotFound = errors.New("object not found")
	// ErrExists: PutIfAbsent met an object.
	ErrExists = errors.New("object exists")
	// ErrConflict: CompareAndSwap met another version.
	ErrConflict = errors.New("object changed")
)

// Version identifies the contents of an object for CompareAndSwap. It is
// opaque; equal contents may have equal versions.
type Version string

// Info describes one object of a listing.
type Info struct {
	Key      string
	Size     int64
	Modified int64 // milliseconds since the Unix epoch
}

// Bucket stores whole objects under keys of '/'-separated segments. All
// methods are safe for concurrent use. A write that returns nil is durable; a
// reader sees the whole object or none of it, whatever crashed. A write that
// returns an error may have happened: who must know reads it back.
type Bucket interface {
	// Get returns length bytes from offset; a negative length reads to the
	// end. A range beyond the end is cut off.
	Get(ctx context.Context, key string, offset, length int64) ([]byte, Version, error)
	// Open streams an object, for those too large to hold.
	Open(ctx context.Context, key string) (io.ReadCloser, int64, error)
	// Put writes an object, replacing one of the same key. size is -1 where
	// it is not known.
	Put(ctx context.Context, key string, r io.Reader, size int64) error
	// PutIfAbsent writes an object unless the key has one (ErrExists).
	PutIfAbsent(ctx context.Context, key string, data []byte) (Version, error)
	// CompareAndSwap replaces an object that still has version old
	// (ErrConflict, or ErrNotFound when it is gone).
	CompareAndSwap(ctx context.Context, key string, old Version, data []byte) (Version, error)
	// List calls f for the objects whose keys begin with prefix, in key
	// order, until it returns an error.
	List(ctx context.Context, prefix string, f func(Info) error) error
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	// URL is where the bucket is, in the form that Open takes.
	URL() string
	Close() error
}

// Keys lists the keys that begin with prefix.
func Keys(ctx context.Context, b Bucket, prefix string) ([]string, error) {
	var keys []string
	err := b.List(ctx, prefix, func(i Info) error {
		keys = append(keys, i.Key)
		return nil
	})
	return keys, err
}
