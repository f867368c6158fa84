package blob

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// session is one opening's folder of temporary files. A lock on a file in it
// says that its process lives; nobody ever waits for that lock, others only
// try it to see whether the folder is a leftover.
type session struct {
	folder string
	lock   *os.File
	files  atomic.Uint64
}

const lockName = "alive"

func newSession(root *os.Root) (*session, error) {
	for range 10 {
		sweepSessions(root)
		s, err := makeSession(root)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		// Another opening took the new folder, not yet locked, for a leftover.
	}
	return nil, errors.New("the folder for temporary files keeps vanishing")
}

func makeSession(root *os.Root) (*session, error) {
	s := &session{folder: tempFolder + "/" + nonce()}
	if err := root.Mkdir(s.folder, 0o755); err != nil {
		return nil, err
	}
	lock, err := root.OpenFile(s.folder+"/"+lockName, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fs.ErrNotExist // a sweeper has it, and will remove the folder
	}
	if err == nil {
		_, err = root.Stat(s.folder + "/" + lockName)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

// sweepSessions removes the folders of processes that are gone. What it
// cannot remove stays for the next opening.
func sweepSessions(root *os.Root) {
	for _, name := range list(root, tempFolder) {
		folder := tempFolder + "/" + name
		lock, err := root.OpenFile(folder+"/"+lockName, os.O_RDWR, 0)
		if err == nil {
			if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
				root.RemoveAll(folder)
			}
			lock.Close()
			continue
		}
		if info, err := root.Stat(folder); err == nil && time.Since(info.ModTime()) > time.Minute {
			root.RemoveAll(folder) // died before it had its lock
		}
	}
}

func (s *session) close(root *os.Root) error {
	return errors.Join(root.RemoveAll(s.folder), s.lock.Close())
}

// list returns the names in a folder, none if it is not there.
func list(root *os.Root, folder string) []string {
	d, err := root.Open(folder)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil
	}
	return names
}

// staged is a temporary file: whole, fsynced, without a name that counts.
type staged struct {
	root *os.Root
	name string
	id   identity
}

func (t staged) discard() { t.root.Remove(t.name) }

// stage writes a temporary file in the same file system.
func (b *File) stage(r io.Reader, size int64) (staged, error) {
	t := staged{root: b.root, name: b.temp.folder + "/" + strconv.FormatUint(b.temp.files.Add(1), 36)}
	id, err := b.write(t.name, r, size)
	if err != nil {
		t.discard()
		return t, err
	}
	t.id = id
	return t, nil
}

// write makes a durable file with an identity of its own.
func (b *File) write(name string, r io.Reader, size int64) (identity, error) {
	f, err := b.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return identity{}, err
	}
	defer f.Close()
	n, err := io.Copy(f, r)
	if err == nil {
		err = checkSize(size, n)
	}
	if err != nil {
		return identity{}, err
	}
	at := freshTime()
	if err := b.root.Chtimes(name, at, at); err != nil {
		return identity{}, err
	}
	if err := f.Sync(); err != nil {
		return identity{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	return identify(info), f.Close()
}

// identity tells a file from every other that had or will have its key.
type identity struct {
	mtime int64
	inode uint64
}

func identify(info fs.FileInfo) identity {
	id := identity{mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.inode = st.Ino
	}
	return id
}

func (id identity) version() Version {
	return Version(fmt.Sprintf("f%x.%x", id.mtime, id.inode))
}

// freshTime is now, with random digits below the millisecond.
func freshTime() time.Time {
	var random [8]byte
	rand.Read(random[:])
	return time.Now().Truncate(time.Millisecond).
		Add(time.Duration(binary.LittleEndian.Uint64(random[:]) % uint64(time.Millisecond)))
}

// nonce is a name that nobody else will choose.
func nonce() string {
	var random [12]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}
