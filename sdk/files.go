package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Files is a source of the lines of files: each line is a record. The pattern
// is a path or a glob (path/filepath.Match), matched on the machine of each
// worker, so in a cluster the files must be there under the same name. Each
// file is a split, its position the byte offset behind the last line; files
// that a glob matches later are taken up when the job is restored. The source
// is bounded: a file ends where it ended when it was reached.
//
// Line ends (\n, \r\n) are not part of the record. A line may have up to
// 16 MiB. A pattern without a match is an error.
func Files[T any](pattern string, codec Codec[T], opts ...FileOption) Source[T] {
	f := &fileSource{pattern: pattern}
	for _, o := range opts {
		o(f)
	}
	return Decoding(f, codec)
}

// FileOption changes how Files reads.
type FileOption func(*fileSource)

// Header says that the first line of each file is no record. The CSV codec
// takes the names of the columns from it.
func Header() FileOption {
	return func(f *fileSource) { f.header = true }
}

const maxLine = 16 << 20

type fileSource struct {
	pattern string
	header  bool
}

func (f *fileSource) Name() string { return "from-" + filepath.Base(f.pattern) }

func (f *fileSource) Bounded() bool { return true }

func (f *fileSource) Check() error {
	if f.pattern == "" {
		return errors.New("Files: the pattern is empty")
	}
	if _, err := filepath.Match(f.pattern, ""); err != nil {
		return fmt.Errorf("Files: pattern %q: %w", f.pattern, err)
	}
	return nil
}

func (f *fileSource) Splits(_ context.Context, _ SourceEnv, known []Split) ([]Split, error) {
	paths := []string{f.pattern}
	if _, err := os.Stat(f.pattern); err != nil {
		if paths, err = filepath.Glob(f.pattern); err != nil {
			return nil, fmt.Errorf("files %s: %w", f.pattern, err)
		}
	}
	for _, s := range known {
		paths = append(paths, s.ID)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("files %s: no file matches on this machine", f.pattern)
	}
	slices.Sort(paths)
	var splits []Split
	for _, p := range slices.Compact(paths) {
		splits = append(splits, Split{ID: p})
	}
	return splits, nil
}

// SplitHeader returns a file's first line when Header is set.
func (f *fileSource) SplitHeader(_ context.Context, s Split) ([]byte, error) {
	if !f.header {
		return nil, nil
	}
	file, err := os.Open(s.ID)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	line, err := readLine(bufio.NewReader(file))
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("header of %s: %w", s.ID, err)
	}
	return bytes.Clone(trimEnd(line)), nil
}

func (f *fileSource) Open(_ context.Context, _ SourceEnv, split Split, position []byte) (Reader[Record], error) {
	file, err := os.Open(split.ID)
	if err != nil {
		return nil, err
	}
	r := &fileReader{file: file, buf: bufio.NewReaderSize(file, 1<<16), stop: -1}
	if err := r.start(f.header, position); err != nil {
		file.Close()
		return nil, fmt.Errorf("file %s: %w", split.ID, err)
	}
	return r, nil
}

// fileReader reads a file in place: a local file answers without waiting.
type fileReader struct {
	file   *os.File
	buf    *bufio.Reader
	offset int64
	size   int64
	// stop is the offset at which a drain ends, -1 without one.
	stop  int64
	lines []int64 // where the lines of the last Poll begin
}

func (r *fileReader) start(header bool, position []byte) error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	r.size = info.Size()
	if len(position) == 0 {
		if header {
			line, err := readLine(r.buf)
			if err != nil && err != io.EOF {
				return err
			}
			r.offset = int64(len(line))
		}
		return nil
	}
	if r.offset, err = offsetOf(position); err != nil {
		return err
	}
	if r.offset > r.size {
		return fmt.Errorf("it has %d bytes, and %d were read before the checkpoint: it was cut or replaced", r.size, r.offset)
	}
	_, err = r.file.Seek(r.offset, io.SeekStart)
	return err
}

func (r *fileReader) Poll(b *Batch[Record], max int) (ReadStatus, error) {
	r.lines = r.lines[:0]
	for range max {
		if r.stop >= 0 && r.offset >= r.stop {
			return ReadEnded, nil
		}
		line, err := readLine(r.buf)
		if len(line) == 0 && err == io.EOF {
			return ReadEnded, nil
		}
		if err != nil && err != io.EOF {
			return ReadEnded, fmt.Errorf("file %s, byte %d: %w", r.file.Name(), r.offset, err)
		}
		r.lines = append(r.lines, r.offset)
		r.offset += int64(len(line))
		b.Append(Record{Data: bytes.Clone(trimEnd(line))}, NoTime)
	}
	return ReadMore, nil
}

func (r *fileReader) Where(i int) string {
	return fmt.Sprintf("file %s, line at byte %d", r.file.Name(), r.lines[i])
}

func (r *fileReader) Position() []byte { return positionOf(r.offset) }

func (r *fileReader) StopAfter(position []byte) {
	r.stop = 0
	if at, err := offsetOf(position); err == nil {
		r.stop = at
	}
}

func (r *fileReader) Lag() (int64, int64) { return -1, -1 }

func (r *fileReader) Close() error { return r.file.Close() }

// readLine returns the next line with its end, valid until the next call.
func readLine(buf *bufio.Reader) ([]byte, error) {
	line, err := buf.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return line, err
	}
	long := bytes.Clone(line)
	for err == bufio.ErrBufferFull {
		if len(long) > maxLine {
			return nil, fmt.Errorf("a line of more than %d bytes", maxLine)
		}
		line, err = buf.ReadSlice('\n')
		long = append(long, line...)
	}
	return long, err
}

func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'})
}

// positionOf and offsetOf are the positions of the sources of this package: a
// count as 8 big-endian bytes.
func positionOf(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func offsetOf(position []byte) (int64, error) {
	if len(position) != 8 {
		return 0, fmt.Errorf("a position of %d bytes where 8 are wanted", len(position))
	}
	return int64(binary.BigEndian.Uint64(position)), nil
}
