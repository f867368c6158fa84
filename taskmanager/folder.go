package taskmanager

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/millrace/millrace/taskmanager/supervise"
)

// Codes of this room in the error catalogue.
const (
	codeFolderInUse = "folder-in-use"
	codeBusy        = "task-manager-busy"
)

// folder is the data folder, locked: no second process uses it meanwhile.
type folder struct {
	path string
	lock *FolderLock // nil when the caller of New keeps it
	id   string
	mu   struct {
		sync.Mutex
		cluster string
	}
}

// openFolder makes and locks a folder, unless it is locked already, and reads
// or makes the id in it.
func openFolder(path string, lock *FolderLock) (*folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &folder{path: path}
	if lock == nil {
		if f.lock, err = LockFolder(path); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(path, "taskmanager"), 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("make data folder: %w", err), f.close())
	}
	if f.id, err = f.readOrMake("id", func() string { return "tm-" + randomHex(8) }); err != nil {
		return nil, errors.Join(err, f.close())
	}
	if f.mu.cluster, err = f.readOrMake("cluster", nil); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// FolderLock keeps other processes, and other task managers of this one, out
// of a data folder.
type FolderLock struct{ file *os.File }

// Close frees the folder.
func (l *FolderLock) Close() error { return l.file.Close() }

// LockFolder makes a data folder and locks it, for a process that does more in
// it than a task manager: it locks first of all and sets Config.Lock. The error
// names the process that has the folder, with the code folder-in-use. The
// kernel frees the lock when the process ends, in whatever way; the number in
// the file is for people.
func LockFolder(path string) (*FolderLock, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder := make([]byte, 32)
		n, _ := lock.ReadAt(holder, 0)
		lock.Close()
		by := strings.TrimSpace(string(holder[:n]))
		if by == "" {
			by = "(unknown)"
		}
		return nil, &supervise.Fault{Code: codeFolderInUse,
			Message: fmt.Sprintf("folder %s is in use by process %s: stop that process, or choose another folder with --data", path, by)}
	}
	if err == nil {
		err = lock.Truncate(0)
	}
	if err == nil {
		_, err = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock data folder %s: %w", path, err)
	}
	return &FolderLock{lock}, nil
}

// readOrMake reads a small file beneath taskmanager; one that is not there is
// made, unless there is nothing to make it of.
func (f *folder) readOrMake(name string, fresh func() string) (string, error) {
	data, err := os.ReadFile(filepath.Join(f.path, "taskmanager", name))
	if value := strings.TrimSpace(string(data)); err == nil && value != "" {
		return value, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if fresh == nil {
		return "", nil
	}
	value := fresh()
	return value, f.write(name, value)
}

// write replaces a small file: it is whole and durable, or as before.
func (f *folder) write(name, value string) error {
	target := filepath.Join(f.path, "taskmanager", name)
	temp := target + ".new"
	file, err := os.Create(temp)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, target); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(target))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// clusterID is the cluster that the folder belongs to, empty before the first.
func (f *folder) clusterID() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.cluster
}

// belongTo binds the folder to a cluster: its shards are of no other.
func (f *folder) belongTo(cluster string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.cluster == cluster {
		return nil
	}
	if f.mu.cluster != "" {
		return fmt.Errorf("data folder %s belongs to cluster %s, the job manager to %s: use the bucket of the former, or an empty folder", f.path, f.mu.cluster, cluster)
	}
	if err := f.write("cluster", cluster); err != nil {
		return fmt.Errorf("note the cluster of data folder %s: %w", f.path, err)
	}
	f.mu.cluster = cluster
	return nil
}

func (f *folder) close() error {
	if f.lock == nil {
		return nil
	}
	return f.lock.Close()
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func randomUint64() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// memory reads the machine's memory in bytes, zeros where it cannot.
func memory() (total, free uint64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib uint64
		if n, _ := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kib); n == 1 {
			total = kib << 10
		}
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); n == 1 {
			return total, kib << 10
		}
	}
	return total, 0
}
