package files

import (
	"github.com/millrace/millrace/blob"
)

// Adopt makes b the bucket at a location of this process, and returns how to
// give it up.
func Adopt(location string, b blob.Bucket) func() error {
	places.Lock()
	defer places.Unlock()
	if places.open == nil {
		places.open = map[string]*place{}
	}
	p := &place{Bucket: b, location: location, users: 1}
	places.open[location] = p
	return p.release
}

// Streamed makes parts go to the bucket as they grow from this size on.
func (p Parts[T]) Streamed(from int) Parts[T] {
	p.spillAt = from
	return p
}

// Impatient makes uploads that fail give up at once.
func (p Parts[T]) Impatient() Parts[T] {
	p.patience = 0
	return p
}
