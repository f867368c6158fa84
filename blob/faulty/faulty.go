// Package faulty wraps a bucket and makes chosen operations fail, take long,
// or succeed without saying so, as a network and a store do.
//
// Rules are decided by operation number, kind, key and a seeded chance: the
// same calls in the same order meet the same faults. All methods are safe for
// concurrent use; the wrapper starts no goroutine. It never changes what an
// operation writes, and what one reads only where a rule says so.
package faulty

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/blob"
)

// ErrInjected is what a failing operation returns unless its rule has another
// error.
var ErrInjected = errors.New("injected fault")

// Op is a kind of operation; kinds combine with |.
type Op uint16

// The operations of a bucket.
const (
	Get Op = 1 << iota
	Open
	Put
	PutIfAbsent
	CompareAndSwap
	List
	Delete

	Reads  = Get | Open | List
	Writes = Put | PutIfAbsent | CompareAndSwap | Delete
	Any    = Reads | Writes
)

// Kind is what goes wrong.
type Kind uint8

const (
	// Fail: the operation does not happen and returns an error.
	Fail Kind = iota
	// Slow: it happens after Rule.Delay.
	Slow
	// LoseReply: it happens and returns an error all the same.
	LoseReply
	// CutShort: a Get gives half of what there is and an Open ends half-way,
	// without an error, as where a connection ends early. Others Fail.
	CutShort
	// FlipBit: a Get or an Open has one bit in the middle turned over. Others
	// Fail.
	FlipBit
)

// Rule says which operations meet which fault. The first rule that matches
// decides.
type Rule struct {
	// Ops restricts the rule to some kinds; zero means Any.
	Ops Op
	// Prefix restricts it to keys (for List: prefixes) that begin so.
	Prefix string
	// Nth, when set, hits only the n-th operation that the rule is about,
	// counting from 1. After hits all that come later than that many.
	Nth, After uint64
	// Sticky: once it has hit a key, it hits every later operation on that key.
	Sticky bool
	// Chance is the probability of a hit where Nth is zero; zero means always.
	Chance float64
	Kind   Kind
	// Delay of Slow.
	Delay time.Duration
	// Err replaces ErrInjected.
	Err error
}

// Bucket is the wrapper.
type Bucket struct {
	blob.Bucket
	mu struct {
		sync.Mutex
		rules []Rule
		seen  []uint64 // operations that each rule was about
		stuck []string // the key that each sticky rule has hit
		rand  *rand.Rand
		ops   uint64
		hits  uint64
		first Hit
	}
}

// Hit is an operation that met a fault.
type Hit struct {
	Op  string
	Key string
}

// New wraps a bucket.
func New(b blob.Bucket, seed uint64, rules ...Rule) *Bucket {
	f := &Bucket{Bucket: b}
	f.mu.rand = rand.New(rand.NewPCG(seed, 0))
	f.Set(rules...)
	return f
}

// Set replaces the rules; without any, all operations pass.
func (f *Bucket) Set(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = rules
	f.mu.seen = make([]uint64, len(rules))
	f.mu.stuck = make([]string, len(rules))
	f.mu.first = Hit{}
}

// Heal lets all operations pass from now on. First stays as it is.
func (f *Bucket) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = nil
}

// First is the first operation that met a fault since Set; false where none
// did.
func (f *Bucket) First() (Hit, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.first, f.mu.first != Hit{}
}

// Counts returns how many operations came and how many of them met a fault.
func (f *Bucket) Counts() (operations, faults uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.ops, f.mu.hits
}

// decide finds the rule that hits an operation.
func (f *Bucket) decide(op Op, name, key string) (Rule, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.ops++
	for i, r := range f.mu.rules {
		if r.Ops != 0 && r.Ops&op == 0 || !strings.HasPrefix(key, r.Prefix) {
			continue
		}
		f.mu.seen[i]++
		n := f.mu.seen[i]
		stuck := r.Sticky && key != "" && f.mu.stuck[i] == key
		if !stuck && (r.Nth != 0 && n != r.Nth || n <= r.After) {
			continue
		}
		if r.Nth == 0 && r.Chance != 0 && f.mu.rand.Float64() >= r.Chance {
			continue
		}
		f.mu.hits++
		f.mu.stuck[i] = key
		if f.mu.first == (Hit{}) {
			f.mu.first = Hit{name, key}
		}
		return r, true
	}
	return Rule{}, false
}

// do runs an operation through the rules. damage, where it is not nil, spoils
// what the operation has read.
func (f *Bucket) do(ctx context.Context, op Op, name, key string, operation func() error, damage func(Kind)) error {
	r, hit := f.decide(op, name, key)
	if !hit {
		return operation()
	}
	fault := r.Err
	if fault == nil {
		fault = ErrInjected
	}
	switch r.Kind {
	case Slow:
		timer := time.NewTimer(r.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			return operation()
		case <-ctx.Done():
			return fmt.Errorf("%s %s: %w", name, key, ctx.Err())
		}
	case LoseReply:
		if err := operation(); err != nil {
			return err
		}
		return fmt.Errorf("%s %s: reply lost: %w", name, key, fault)
	case CutShort, FlipBit:
		if damage != nil {
			err := operation()
			if err == nil {
				damage(r.Kind)
			}
			return err
		}
	}
	return fmt.Errorf("%s %s: %w", name, key, fault)
}

// Get implements blob.Bucket.
func (f *Bucket) Get(ctx context.Context, key string, offset, length int64) (data []byte, v blob.Version, err error) {
	err = f.do(ctx, Get, "get", key, func() (err error) {
		data, v, err = f.Bucket.Get(ctx, key, offset, length)
		return err
	}, func(kind Kind) { data = spoil(kind, data) })
	if err != nil {
		return nil, "", err
	}
	return data, v, nil
}

// Open implements blob.Bucket.
func (f *Bucket) Open(ctx context.Context, key string) (r io.ReadCloser, size int64, err error) {
	err = f.do(ctx, Open, "open", key, func() (err error) {
		r, size, err = f.Bucket.Open(ctx, key)
		return err
	}, func(kind Kind) {
		data, readErr := io.ReadAll(r)
		r = &spoiled{Reader: bytes.NewReader(spoil(kind, data)), closer: r, err: readErr}
	})
	if err != nil {
		if r != nil {
			r.Close()
		}
		return nil, 0, err
	}
	return r, size, nil
}

// Put implements blob.Bucket.
func (f *Bucket) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	return f.do(ctx, Put, "put", key, func() error { return f.Bucket.Put(ctx, key, r, size) }, nil)
}

// PutIfAbsent implements blob.Bucket.
func (f *Bucket) PutIfAbsent(ctx context.Context, key string, data []byte) (v blob.Version, err error) {
	err = f.do(ctx, PutIfAbsent, "put if absent", key, func() (err error) {
		v, err = f.Bucket.PutIfAbsent(ctx, key, data)
		return err
	}, nil)
	if err != nil {
		return "", err
	}
	return v, nil
}

// CompareAndSwap implements blob.Bucket.
func (f *Bucket) CompareAndSwap(ctx context.Context, key string, old blob.Version, data []byte) (v blob.Version, err error) {
	err = f.do(ctx, CompareAndSwap, "compare and swap", key, func() (err error) {
		v, err = f.Bucket.CompareAndSwap(ctx, key, old, data)
		return err
	}, nil)
	if err != nil {
		return "", err
	}
	return v, nil
}

// List implements blob.Bucket.
func (f *Bucket) List(ctx context.Context, prefix string, visit func(blob.Info) error) error {
	return f.do(ctx, List, "list", prefix, func() error { return f.Bucket.List(ctx, prefix, visit) }, nil)
}

// Delete implements blob.Bucket.
func (f *Bucket) Delete(ctx context.Context, key string) error {
	return f.do(ctx, Delete, "delete", key, func() error { return f.Bucket.Delete(ctx, key) }, nil)
}

// spoil is a damaged copy of what was read.
func spoil(kind Kind, data []byte) []byte {
	if kind == CutShort {
		return bytes.Clone(data[:len(data)/2])
	}
	data = bytes.Clone(data)
	if len(data) > 0 {
		data[len(data)/2] ^= 1
	}
	return data
}

// spoiled reads what spoil made, then what reading the object said.
type spoiled struct {
	io.Reader
	closer io.Closer
	err    error
}

func (s *spoiled) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF && s.err != nil {
		err = s.err
	}
	return n, err
}

func (s *spoiled) Close() error { return s.closer.Close() }
