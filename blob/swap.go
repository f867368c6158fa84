package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// How CompareAndSwap works without a lock.
//
// No system call replaces a file on condition that it is still the same one.
// But rename(2) fails when its source is gone, so a *name* can be compared and
// swapped if every name is used once. An object that was swapped has a folder
// .millrace/swap/<hash of key>/<mtime of its file>/ that holds
//
//	now-<n>-<nonce>    an empty file: generation n of the object is current
//	data-<n>-<nonce>   the bytes of that generation
//
// 1. The file at the key stays: it says that the object exists, and its
// identity says which folder belongs to it. A folder of another identity is
// dead for ever: identities do not come back. So Put, which replaces the file,
// and Delete, which removes it, end the chain by that alone.
//
// 2. The folder appears at once with generation 1 in it, by rename(2) of a
// whole folder, which fails if there is one with something in it. It is never
// empty while its identity lives, so only one swap of the file itself wins.
//
// 3. Generation n+1 is first written as data-<n+1>-<nonce>, then made current
// by renaming now-<n>-… to now-<n+1>-<nonce>. Of all who try, one finds the
// source: names hold nonces and are never used again, so it compares and
// swaps in one step. Who fails got ErrConflict.
//
// 4. After that step every other data file of a generation up to n+1 is dead:
// it could become current only by renaming a name that no longer exists. The
// winner removes these, and no others.
//
// 5. A reader lists the folder for the name and opens the data; if either is
// gone, a newer generation is there, and it looks again.
//
// 6. A dead folder is removed only after its identity has left the key. So who
// finds no folder, and after that the same identity still at the key, knows
// that the file itself is current.
//
// A process may be stopped between any two of these steps for any time; no
// other waits for it, and when it goes on it fails (3) or changes a dead
// folder (1), which is as if it had come just before the Put or Delete.

// generation is what a name in a swap folder says.
type generation struct {
	n     uint64
	nonce string
}

func (g generation) now() string  { return fmt.Sprintf("now-%d-%s", g.n, g.nonce) }
func (g generation) data() string { return fmt.Sprintf("data-%d-%s", g.n, g.nonce) }
func (g generation) version() Version {
	return Version(fmt.Sprintf("g%d.%s", g.n, g.nonce))
}

func parseGeneration(name, kind string) (generation, bool) {
	rest, ok := strings.CutPrefix(name, kind+"-")
	number, nonce, ok2 := strings.Cut(rest, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	return generation{n, nonce}, ok && ok2 && err == nil
}

// swapOf is where the swap folders of a key are.
func swapOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return swapFolder + "/" + hex.EncodeToString(sum[:16])
}

func (id identity) swap(key string) string {
	return swapOf(key) + "/" + strconv.FormatInt(id.mtime, 16)
}

// opened is an object at one moment.
type opened struct {
	file    *os.File
	size    int64
	version Version
	// swap is the folder of this identity, gen its current generation; n is 0
	// where the file itself is current.
	swap string
	gen  generation
}

// retries bounds how often one call may lose a race to others before it gives
// up. Every lost race is somebody's progress.
const retries = 1000

// current opens the object as it is now.
func (b *File) current(ctx context.Context, key string) (opened, error) {
	if err := ctx.Err(); err != nil {
		return opened{}, err
	}
	f, err := b.root.Open(key)
	if absent(err) {
		return opened{}, ErrNotFound
	}
	if err != nil {
		return opened{}, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = ErrNotFound
	}
	if err != nil {
		f.Close()
		return opened{}, err
	}
	id := identify(info)
	o := opened{file: f, size: info.Size(), version: id.version(), swap: id.swap(key)}
	_, err = b.root.Stat(o.swap)
	if absent(err) {
		// There was no swap, or the object died and its folder with it (6).
		if info, err := b.root.Stat(key); err == nil && identify(info) == id {
			return o, nil
		}
		f.Close()
		return b.current(ctx, key)
	}
	f.Close()
	if err != nil {
		return opened{}, err
	}
	for range retries {
		gen, found := b.generation(o.swap)
		if !found {
			// Deleted, or replaced by Put, since we looked: look at the key again.
			if info, err := b.root.Stat(key); absent(err) {
				return opened{}, ErrNotFound
			} else if err == nil && identify(info) != id {
				return b.current(ctx, key)
			}
		} else if f, err := b.root.Open(o.swap + "/" + gen.data()); err == nil {
			if info, err = f.Stat(); err != nil {
				f.Close()
				return opened{}, err
			}
			o.file, o.size, o.version, o.gen = f, info.Size(), gen.version(), gen
			return o, nil
		} else if !absent(err) {
			return opened{}, err
		}
		if err := ctx.Err(); err != nil {
			return opened{}, err
		}
	}
	return opened{}, errors.New("the object changes faster than it can be read")
}

// generation finds the current one in a swap folder. A list that raced with a
// rename may show both names, then the newer holds, or none.
func (b *File) generation(folder string) (newest generation, found bool) {
	for _, name := range list(b.root, folder) {
		if g, ok := parseGeneration(name, "now"); ok && g.n > newest.n {
			newest, found = g, true
		}
	}
	return newest, found
}

// CompareAndSwap implements Bucket.
func (b *File) CompareAndSwap(ctx context.Context, key string, old Version, data []byte) (Version, error) {
	if err := begin(ctx, "compare and swap", key); err != nil {
		return "", err
	}
	o, err := b.current(ctx, key)
	if err != nil {
		return "", fail("compare and swap", key, err)
	}
	o.file.Close()
	if o.version != old {
		return "", fail("compare and swap", key, ErrConflict)
	}
	next := generation{n: o.gen.n + 1, nonce: nonce()}
	if o.gen.n == 0 {
		err = b.firstSwap(key, o.swap, next, data)
	} else {
		err = b.nextSwap(o.swap, o.gen, next, data)
	}
	if err != nil {
		return "", fail("compare and swap", key, err)
	}
	return next.version(), nil
}

// firstSwap makes the swap folder with generation 1 in it (2).
func (b *File) firstSwap(key, folder string, next generation, data []byte) error {
	made := b.temp.folder + "/" + next.nonce
	if err := b.root.Mkdir(made, 0o755); err != nil {
		return err
	}
	defer b.root.RemoveAll(made)
	for name, content := range map[string][]byte{next.data(): data, next.now(): nil} {
		if _, err := b.write(made+"/"+name, bytes.NewReader(content), int64(len(content))); err != nil {
			return err
		}
	}
	if err := b.syncFolder(made); err != nil {
		return err
	}
	parent := swapOf(key)
	if err := b.makeFolder(parent); err != nil {
		return err
	}
	err := b.root.Rename(made, folder)
	switch {
	case err == nil:
		return b.syncFolder(parent)
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTEMPTY), absent(err):
		return ErrConflict
	}
	return err
}

// nextSwap makes generation next current if old is (3).
func (b *File) nextSwap(folder string, old, next generation, data []byte) error {
	name := folder + "/" + next.data()
	if _, err := b.write(name, bytes.NewReader(data), int64(len(data))); err != nil {
		b.root.Remove(name)
		if absent(err) {
			return ErrConflict // the folder is gone: deleted or replaced
		}
		return err
	}
	err := b.syncFolder(folder)
	if err == nil {
		err = b.root.Rename(folder+"/"+old.now(), folder+"/"+next.now())
	}
	if err != nil {
		b.root.Remove(name)
		if absent(err) {
			return ErrConflict
		}
		return err
	}
	if err := b.syncFolder(folder); err != nil {
		return err
	}
	for _, name := range list(b.root, folder) {
		if g, ok := parseGeneration(name, "data"); ok && g.n <= next.n && g != next {
			b.root.Remove(folder + "/" + name)
		}
	}
	return nil
}

// sweepSwap removes the dead folders of a key, given its live identity. What
// it cannot remove is removed by a later opening.
func (b *File) sweepSwap(folder string, live identity) {
	for _, name := range list(b.root, folder) {
		if name != strconv.FormatInt(live.mtime, 16) {
			b.root.RemoveAll(folder + "/" + name)
		}
	}
	b.root.Remove(folder) // succeeds only when it is empty
}

// sweepSwaps removes the swap folders of all objects that are gone or were
// replaced when their process died. It walks the keys only if there are any.
func (b *File) sweepSwaps() error {
	// The folders are listed before the keys, so that an object swapped for
	// the first time meanwhile is not mistaken for a dead one.
	dead := map[string]bool{}
	for _, key := range list(b.root, swapFolder) {
		for _, id := range list(b.root, swapFolder+"/"+key) {
			dead[swapFolder+"/"+key+"/"+id] = true
		}
	}
	if len(dead) == 0 {
		return nil
	}
	err := b.walk("", "", func(key string, info fs.FileInfo) error {
		delete(dead, identify(info).swap(key))
		return nil
	})
	if err != nil {
		return err
	}
	for folder := range dead {
		b.root.RemoveAll(folder)
		b.root.Remove(folder[:strings.LastIndexByte(folder, '/')])
	}
	return nil
}

// List implements Bucket.
func (b *File) List(ctx context.Context, prefix string, f func(Info) error) error {
	swapped := list(b.root, swapFolder)
	folder, _ := splitPrefix(prefix)
	return b.walk(folder, prefix, func(key string, info fs.FileInfo) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %q: %w", prefix, err)
		}
		found := Info{Key: key, Size: info.Size(), Modified: info.ModTime().UnixMilli()}
		if len(swapped) > 0 && slices.Contains(swapped, swapOf(key)[len(swapFolder)+1:]) {
			o, err := b.current(ctx, key)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("list %q: %w", prefix, err)
			}
			defer o.file.Close()
			if info, err = o.file.Stat(); err != nil {
				return fmt.Errorf("list %q: %w", prefix, err)
			}
			found.Size, found.Modified = info.Size(), info.ModTime().UnixMilli()
		}
		return f(found)
	})
}

// splitPrefix cuts a prefix of keys into the folder to walk and the rest.
func splitPrefix(prefix string) (folder, rest string) {
	i := strings.LastIndexByte(prefix, '/')
	if i < 0 {
		return "", prefix
	}
	return prefix[:i], prefix[i+1:]
}

// walk visits the files beneath folder whose keys begin with prefix, in key
// order. Files that vanish meanwhile are left out.
func (b *File) walk(folder, prefix string, visit func(string, fs.FileInfo) error) error {
	if folder != "" && ValidateKey(folder) != nil {
		return nil // no key can begin like that
	}
	at := folder
	if at == "" {
		at = "."
	}
	d, err := b.root.Open(at)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	d.Close()
	if errors.Is(err, syscall.ENOTDIR) || absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// A folder sorts as its keys do, which continue with a slash.
	sortName := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return strings.Compare(sortName(x), sortName(y)) })
	for _, e := range entries {
		key := e.Name()
		if folder != "" {
			key = folder + "/" + key
		}
		if key == reserved {
			continue
		}
		if e.IsDir() {
			below := key + "/"
			if strings.HasPrefix(below, prefix) || strings.HasPrefix(prefix, below) {
				if err := b.walk(key, prefix, visit); err != nil {
					return err
				}
			}
			continue
		}
		if !e.Type().IsRegular() || !strings.HasPrefix(key, prefix) {
			continue
		}
		info, err := e.Info()
		if absent(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := visit(key, info); err != nil {
			return err
		}
	}
	return nil
}
