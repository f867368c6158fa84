package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"
)

// Max is the longest message, in bytes, that a frame may hold.
const Max = 64 << 20

// keep is the largest buffer that a reader or writer holds on to between
// frames: one huge restore must not stay in memory for the life of a job.
const keep = 1 << 20

// ErrTooLong is a frame, read or to be written, that is longer than Max.
var ErrTooLong = errors.New("frame is longer than 64 MiB")

// Reader reads messages.
type Reader struct {
	r   io.Reader
	buf []byte
}

// NewReader returns a reader of frames. r is read in two calls a frame, so it
// may well be buffered.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Read reads the next message into m, replacing its contents.
func (r *Reader) Read(m proto.Message) error {
	var head [4]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > Max {
		return fmt.Errorf("read %d bytes: %w", n, ErrTooLong)
	}
	if err := r.fill(int(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	err := proto.Unmarshal(r.buf, m)
	if cap(r.buf) > keep {
		r.buf = nil
	}
	if err != nil {
		return fmt.Errorf("read a frame of %d bytes: %w", n, err)
	}
	return nil
}

// fill reads n bytes, taking memory as they come: the length of a broken
// stream must not cost 64 MiB before its first byte.
func (r *Reader) fill(n int) error {
	r.buf = r.buf[:0]
	for len(r.buf) < n {
		step := min(n-len(r.buf), keep)
		at := len(r.buf)
		r.buf = append(r.buf, make([]byte, step)...)
		if _, err := io.ReadFull(r.r, r.buf[at:]); err != nil {
			return err
		}
	}
	return nil
}

// Writer writes messages. It is safe for concurrent use.
type Writer struct {
	mu struct {
		sync.Mutex
		w   io.Writer
		buf []byte
	}
}

// NewWriter returns a writer of frames to w, one Write call a frame.
func NewWriter(w io.Writer) *Writer {
	fw := &Writer{}
	fw.mu.w = w
	return fw
}

// Write writes one message. It blocks as long as the stream does; the lock
// it holds meanwhile is what keeps frames whole, and guards nothing else.
func (w *Writer) Write(m proto.Message) error {
	if n := proto.Size(m); n > Max {
		return fmt.Errorf("write %d bytes: %w", n, ErrTooLong)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	buf, err := proto.MarshalOptions{}.MarshalAppend(append(w.mu.buf[:0], 0, 0, 0, 0), m)
	if err != nil {
		return fmt.Errorf("write a frame: %w", err)
	}
	binary.BigEndian.PutUint32(buf, uint32(len(buf)-4))
	w.mu.buf = buf
	if cap(buf) > keep {
		w.mu.buf = nil
	}
	if _, err := w.mu.w.Write(buf); err != nil {
		return fmt.Errorf("write a frame: %w", err)
	}
	return nil
}
