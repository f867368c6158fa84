package blob

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Memory is a bucket in this process, for tests and for jobs run by hand. It
// has a name so that two parts of a process can meet in it by URL.
type Memory struct {
	name string
	mu   struct {
		sync.RWMutex
		objects map[string]memoryObject
		writes  uint64
	}
}

// memoryObject is immutable: a write makes a new one.
type memoryObject struct {
	data     []byte
	version  Version
	modified int64
}

// NewMemory returns an empty bucket of its own.
func NewMemory() *Memory {
	m := &Memory{}
	m.mu.objects = map[string]memoryObject{}
	return m
}

// named holds the buckets that Open gave a name, for the life of the process.
var named struct {
	sync.Mutex
	buckets map[string]*Memory
}

// openMemory returns the bucket of that name; the empty name is always new.
func openMemory(name string) *Memory {
	if name == "" {
		return NewMemory()
	}
	named.Lock()
	defer named.Unlock()
	m, ok := named.buckets[name]
	if !ok {
		m = NewMemory()
		m.name = name
		if named.buckets == nil {
			named.buckets = map[string]*Memory{}
		}
		named.buckets[name] = m
	}
	return m
}

func (m *Memory) object(key string) (memoryObject, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.mu.objects[key]
	if !ok {
		return o, ErrNotFound
	}
	return o, nil
}

// storeLocked puts data, which it keeps, under key.
func (m *Memory) storeLocked(key string, data []byte) Version {
	m.mu.writes++
	v := Version("m" + strconv.FormatUint(m.mu.writes, 36))
	m.mu.objects[key] = memoryObject{data: data, version: v, modified: time.Now().UnixMilli()}
	return v
}

// Get implements Bucket.
func (m *Memory) Get(ctx context.Context, key string, offset, length int64) ([]byte, Version, error) {
	if err := begin(ctx, "get", key); err != nil {
		return nil, "", err
	}
	o, err := m.object(key)
	if err != nil {
		return nil, "", fail("get", key, err)
	}
	from, to := clip(int64(len(o.data)), offset, length)
	return slices.Clone(o.data[from:to]), o.version, nil
}

// Open implements Bucket.
func (m *Memory) Open(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	if err := begin(ctx, "open", key); err != nil {
		return nil, 0, err
	}
	o, err := m.object(key)
	if err != nil {
		return nil, 0, fail("open", key, err)
	}
	return io.NopCloser(bytes.NewReader(o.data)), int64(len(o.data)), nil
}

// Put implements Bucket.
func (m *Memory) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if err := begin(ctx, "put", key); err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err == nil {
		err = checkSize(size, int64(len(data)))
	}
	if err != nil {
		return fail("put", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.storeLocked(key, data)
	return nil
}

// PutIfAbsent implements Bucket.
func (m *Memory) PutIfAbsent(ctx context.Context, key string, data []byte) (Version, error) {
	if err := begin(ctx, "put if absent", key); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.mu.objects[key]; ok {
		return "", fail("put if absent", key, ErrExists)
	}
	return m.storeLocked(key, slices.Clone(data)), nil
}

// CompareAndSwap implements Bucket.
func (m *Memory) CompareAndSwap(ctx context.Context, key string, old Version, data []byte) (Version, error) {
	if err := begin(ctx, "compare and swap", key); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch o, ok := m.mu.objects[key]; {
	case !ok:
		return "", fail("compare and swap", key, ErrNotFound)
	case o.version != old:
		return "", fail("compare and swap", key, ErrConflict)
	}
	return m.storeLocked(key, slices.Clone(data)), nil
}

// List implements Bucket. f runs without the bucket's lock.
func (m *Memory) List(ctx context.Context, prefix string, f func(Info) error) error {
	m.mu.RLock()
	var found []Info
	for key, o := range m.mu.objects {
		if strings.HasPrefix(key, prefix) {
			found = append(found, Info{Key: key, Size: int64(len(o.data)), Modified: o.modified})
		}
	}
	m.mu.RUnlock()
	slices.SortFunc(found, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	for _, info := range found {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %q: %w", prefix, err)
		}
		if err := f(info); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements Bucket.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, "delete", key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.objects, key)
	return nil
}

// URL implements Bucket.
func (m *Memory) URL() string { return "mem://" + m.name }

// Close implements Bucket. The objects stay, for others who know the name.
func (m *Memory) Close() error { return nil }
