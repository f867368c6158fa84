package blob

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"github.com/minio/minio-go/v7"
)

// Mover is a Bucket that gives an object another key without reading it.
type Mover interface {
	// Move makes the object at from the one at to, replacing one that is
	// there, in one step for readers of to. Then from is gone; where a crash
	// comes between, both may be there. ErrNotFound: there is none at from.
	Move(ctx context.Context, from, to string) error
}

// Move moves an object in any bucket: one that is no Mover reads and writes it.
func Move(ctx context.Context, b Bucket, from, to string) error {
	if m, ok := b.(Mover); ok {
		return m.Move(ctx, from, to)
	}
	return rewrite(ctx, b, from, to)
}

func rewrite(ctx context.Context, b Bucket, from, to string) error {
	r, size, err := b.Open(ctx, from)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := b.Put(ctx, to, r, size); err != nil {
		return err
	}
	return b.Delete(ctx, from)
}

// Move implements Mover: rename(2), then both folders made durable.
func (b *File) Move(ctx context.Context, from, to string) error {
	if err := errors.Join(begin(ctx, "move", from), begin(ctx, "move to", to)); err != nil {
		return err
	}
	info, err := b.root.Stat(from)
	switch {
	case absent(err) || err == nil && info.IsDir():
		return fail("move", from, ErrNotFound)
	case err != nil:
		return fail("move", from, err)
	}
	if len(list(b.root, swapOf(from))) > 0 {
		return rewrite(ctx, b, from, to) // its bytes are elsewhere
	}
	if err := b.publish(to, func() error { return b.root.Rename(from, to) }); err != nil {
		if _, gone := b.root.Stat(from); absent(gone) {
			err = ErrNotFound // another moved or deleted it meanwhile
		}
		return fail("move", from, err)
	}
	b.sweepSwap(swapOf(to), identify(info))
	if err := b.syncFolder(path.Dir(from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail("move", from, err)
	}
	b.prune(path.Dir(from))
	return nil
}

// prune removes a folder that is empty, and those above it that become so.
func (b *File) prune(folder string) {
	for ; folder != "."; folder = path.Dir(folder) {
		if b.root.Remove(folder) != nil {
			return
		}
	}
}

// Move implements Mover.
func (m *Memory) Move(ctx context.Context, from, to string) error {
	if err := errors.Join(begin(ctx, "move", from), begin(ctx, "move to", to)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.mu.objects[from]
	if !ok {
		return fail("move", from, ErrNotFound)
	}
	m.storeLocked(to, o.data)
	delete(m.mu.objects, from)
	return nil
}

// Move implements Mover: the store copies. It refuses objects above 5 GiB.
func (b *S3) Move(ctx context.Context, from, to string) error {
	if err := errors.Join(begin(ctx, "move", from), begin(ctx, "move to", to)); err != nil {
		return err
	}
	_, err := b.client.CopyObject(ctx,
		minio.CopyDestOptions{Bucket: b.bucket, Object: b.prefix + to},
		minio.CopySrcOptions{Bucket: b.bucket, Object: b.prefix + from})
	if err != nil {
		return fail("move", from, translate(err))
	}
	return b.Delete(ctx, from)
}
