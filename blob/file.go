package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// File is a bucket in a folder. Any number of processes may use it at once.
//
// An object is a file at its key. Its bytes never change: they are written to
// a temporary file, fsynced, and then appear under the key in one step, with
// link(2), which refuses a key that is taken, or with rename(2), which does
// not; an fsync of the folder makes the name durable. Whatever process dies
// or is stopped between two steps, nobody waits for it, and no reader sees
// half an object.
//
// Each such file has an identity, by which versions go: its modification
// time, whose digits below a millisecond are random. Copies of the folder
// must therefore keep times (cp -a, rsync -a, tar). Objects that
// CompareAndSwap changed continue in .millrace/swap; see swap.go.
type File struct {
	dir  string
	root *os.Root
	temp *session
}

// Folders of the bucket's own.
const (
	tempFolder = reserved + "/tmp"
	swapFolder = reserved + "/swap"
)

// OpenFile opens the bucket in a folder, which it makes if it is not there.
// It removes what writers left behind that were killed. A file system that
// cannot keep times to the nanosecond or has no hard links is refused.
func OpenFile(dir string) (*File, error) {
	b, err := openFile(dir)
	if err != nil {
		return nil, fmt.Errorf("open bucket in folder %s: %w", dir, err)
	}
	return b, nil
}

func openFile(dir string) (*File, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	b := &File{dir: dir, root: root}
	for _, folder := range []string{tempFolder, swapFolder} {
		if err := b.makeFolder(folder); err != nil {
			root.Close()
			return nil, err
		}
	}
	if b.temp, err = newSession(root); err != nil {
		root.Close()
		return nil, err
	}
	if err := errors.Join(b.probe(), b.sweepSwaps()); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// probe proves what the bucket relies on: times and links.
func (b *File) probe() error {
	t, err := b.stage(bytes.NewReader([]byte("probe")), -1)
	if err != nil {
		return err
	}
	defer t.discard()
	link := t.name + "-link"
	defer b.root.Remove(link)
	if err := b.root.Link(t.name, link); err != nil {
		return fmt.Errorf("the file system has no hard links, use another: %w", err)
	}
	if err := b.root.Link(t.name, link); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the file system lets a hard link replace a file (%w), use another", err)
	}
	info, err := b.root.Stat(link)
	if err != nil {
		return err
	}
	if identify(info) != t.id {
		return errors.New("the file system does not keep times to the nanosecond, use another")
	}
	return nil
}

// Get implements Bucket.
func (b *File) Get(ctx context.Context, key string, offset, length int64) ([]byte, Version, error) {
	if err := begin(ctx, "get", key); err != nil {
		return nil, "", err
	}
	o, err := b.current(ctx, key)
	if err != nil {
		return nil, "", fail("get", key, err)
	}
	defer o.file.Close()
	from, to := clip(o.size, offset, length)
	data := make([]byte, to-from)
	if _, err := o.file.ReadAt(data, from); err != nil && !(errors.Is(err, io.EOF) && len(data) == 0) {
		return nil, "", fail("get", key, err)
	}
	return data, o.version, nil
}

// Open implements Bucket.
func (b *File) Open(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	if err := begin(ctx, "open", key); err != nil {
		return nil, 0, err
	}
	o, err := b.current(ctx, key)
	if err != nil {
		return nil, 0, fail("open", key, err)
	}
	return o.file, o.size, nil
}

// Link gives the object's file a second name, of which the caller must not
// change the bytes. It fails where that is not possible: on another file system,
// or for an object that was swapped.
func (b *File) Link(ctx context.Context, key, path string) error {
	if err := begin(ctx, "link", key); err != nil {
		return err
	}
	o, err := b.current(ctx, key)
	if err != nil {
		return fail("link", key, err)
	}
	defer o.file.Close()
	if o.gen.n > 0 {
		return fail("link", key, errors.ErrUnsupported)
	}
	if err := os.Link(filepath.Join(b.dir, filepath.FromSlash(key)), path); err != nil {
		return fail("link", key, err)
	}
	return nil
}

// Put implements Bucket.
func (b *File) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if err := begin(ctx, "put", key); err != nil {
		return err
	}
	t, err := b.stage(&cancelReader{ctx, r}, size)
	if err != nil {
		return fail("put", key, err)
	}
	defer t.discard()
	if err := b.publish(key, func() error { return b.root.Rename(t.name, key) }); err != nil {
		return fail("put", key, err)
	}
	b.sweepSwap(swapOf(key), t.id)
	return nil
}

// PutIfAbsent implements Bucket.
func (b *File) PutIfAbsent(ctx context.Context, key string, data []byte) (Version, error) {
	if err := begin(ctx, "put if absent", key); err != nil {
		return "", err
	}
	t, err := b.stage(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return "", fail("put if absent", key, err)
	}
	defer t.discard()
	if err := b.publish(key, func() error { return b.root.Link(t.name, key) }); err != nil {
		return "", fail("put if absent", key, err)
	}
	return t.id.version(), nil
}

// publish gives a staged file its name and makes the name durable. The folder
// may vanish at any moment before that, since Delete removes empty ones.
func (b *File) publish(key string, name func() error) error {
	for attempt := 0; ; attempt++ {
		err := name()
		switch {
		case err == nil:
			return b.syncFolder(path.Dir(key))
		case errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EISDIR):
			return b.taken(key)
		case errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("%w: a part of it is an object", ErrInvalidKey)
		case !errors.Is(err, fs.ErrNotExist) || attempt == 10:
			return err
		}
		if err := b.makeFolder(path.Dir(key)); err != nil && attempt == 10 {
			return err
		}
	}
}

// taken tells an object from a folder that stands at key.
func (b *File) taken(key string) error {
	if info, err := b.root.Stat(key); err == nil && info.IsDir() {
		return fmt.Errorf("%w: other objects are beneath it", ErrInvalidKey)
	}
	return ErrExists
}

// makeFolder makes a folder and those above it, each durable.
func (b *File) makeFolder(folder string) error {
	if folder == "." {
		return nil
	}
	err := b.root.Mkdir(folder, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.makeFolder(path.Dir(folder)); err != nil {
			return err
		}
		err = b.root.Mkdir(folder, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: a part of it is an object", ErrInvalidKey)
	}
	if err != nil {
		return err
	}
	return b.syncFolder(path.Dir(folder))
}

func (b *File) syncFolder(folder string) error {
	d, err := b.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Delete implements Bucket. Folders that it empties go too.
func (b *File) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, "delete", key); err != nil {
		return err
	}
	info, err := b.root.Stat(key)
	if absent(err) || err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		err = b.root.Remove(key)
	}
	if absent(err) {
		return nil
	}
	if err == nil {
		err = b.syncFolder(path.Dir(key))
	}
	if err != nil && !absent(err) {
		return fail("delete", key, err)
	}
	b.sweepSwap(swapOf(key), identity{})
	b.prune(path.Dir(key))
	return nil
}

// absent says that an error means no object: a missing file, or a key that
// leads through one.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// URL implements Bucket.
func (b *File) URL() string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(b.dir)}).String()
}

// Close implements Bucket.
func (b *File) Close() error {
	return errors.Join(b.temp.close(b.root), b.root.Close())
}

// cancelReader ends a long copy when the caller goes away.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
