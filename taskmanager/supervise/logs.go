package supervise

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const (
	// tailBytes of a process's stderr are kept for its obituary.
	tailBytes = 4 << 10
	// keepLogs is how many log files stay, the oldest being removed first.
	keepLogs = 400
	// maxChunk bounds one answer of ReadLog.
	maxChunk = 1 << 20
)

// capture takes the output of a process into a file of limited size, and keeps
// its end in memory. It never fails: a full disk costs lines, not the worker.
type capture struct {
	root  *os.Root
	name  string // empty: no file
	limit int64
	mu    struct {
		sync.Mutex
		file *os.File
		size int64
		tail []byte
	}
}

// Write implements io.Writer.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.tail = append(c.mu.tail, p...)
	if over := len(c.mu.tail) - tailBytes; over > 0 {
		c.mu.tail = append(c.mu.tail[:0], c.mu.tail[over:]...)
	}
	if c.name == "" {
		return len(p), nil
	}
	if c.mu.file != nil && c.mu.size+int64(len(p)) > c.limit {
		c.mu.file.Close()
		c.mu.file = nil
		// If the older part cannot be replaced, the new one starts over it.
		_ = c.root.Rename(c.name, c.name+".1")
	}
	if c.mu.file == nil && !c.openLocked() {
		return len(p), nil
	}
	n, _ := c.mu.file.Write(p)
	c.mu.size += int64(n)
	return len(p), nil
}

// openLocked begins an empty file.
func (c *capture) openLocked() bool {
	f, err := c.root.OpenFile(c.name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return false
	}
	c.mu.file, c.mu.size = f, 0
	return true
}

// begin makes the file, so that people see that there was no output.
func (c *capture) begin(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name = name
	c.openLocked()
}

// end returns the last lines.
func (c *capture) end() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	tail := strings.ToValidUTF8(string(c.mu.tail), "�")
	if len(c.mu.tail) == tailBytes {
		if i := strings.IndexByte(tail, '\n'); i >= 0 && i < len(tail)-1 {
			tail = tail[i+1:]
		}
	}
	return tail
}

func (c *capture) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.file != nil {
		c.mu.file.Close()
		c.mu.file = nil
	}
	c.name = ""
}

// logName makes a file name of ids that came over the network.
func logName(job, worker string) string {
	clean := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}
	return strings.Map(clean, job[:min(len(job), 64)]) + "-" + strings.Map(clean, worker[:min(len(worker), 100)])
}

// Logs lists the log files, newest first.
func (s *Supervisor) Logs() (*pb.LogList, error) {
	d, err := s.logs.Open(".")
	if err != nil {
		return nil, faultf(CodeInternal, "list logs: %w", err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, faultf(CodeInternal, "list logs: %w", err)
	}
	files := &pb.LogList{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files.Files = append(files.Files, &pb.LogFile{Name: e.Name(), Size: uint64(info.Size()), ModifiedMs: info.ModTime().UnixMilli()})
		}
	}
	slices.SortFunc(files.Files, func(a, b *pb.LogFile) int {
		if a.ModifiedMs != b.ModifiedMs {
			return int(b.ModifiedMs - a.ModifiedMs)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return files, nil
}

// ReadLog returns a part of a log file. Only plain names of the logs' folder
// can be read; links are not followed out of it.
func (s *Supervisor) ReadLog(req *pb.ReadLog) (*pb.LogChunk, error) {
	name := req.GetName()
	notFound := faultf(CodeLogNotFound, "there is no log %.200q", name)
	if name == "" || strings.ContainsAny(name, "/\\\x00") || strings.HasPrefix(name, ".") {
		return nil, notFound
	}
	info, err := s.logs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, notFound
	}
	if err != nil {
		return nil, faultf(CodeInternal, "read log %s: %w", name, err)
	}
	f, err := s.logs.Open(name)
	if err != nil {
		return nil, faultf(CodeInternal, "read log %s: %w", name, err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, faultf(CodeInternal, "read log %s: %w", name, err)
	}
	size, from := info.Size(), req.GetOffset()
	if from < 0 {
		from = max(0, size+from)
	}
	length := int64(min(req.GetLimit(), maxChunk))
	if length == 0 {
		length = maxChunk
	}
	data := make([]byte, max(0, min(length, size-from)))
	n, err := f.ReadAt(data, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, faultf(CodeInternal, "read log %s: %w", name, err)
	}
	return &pb.LogChunk{Data: data[:n], Size: uint64(size)}, nil
}

// pruneLogs removes the oldest files above keepLogs.
func (s *Supervisor) pruneLogs() {
	all, err := s.Logs()
	if err != nil || len(all.GetFiles()) <= keepLogs {
		return
	}
	for _, f := range all.GetFiles()[keepLogs:] {
		_ = s.logs.Remove(f.GetName())
	}
}
