// Package wire frames the shard protocol: after a preface each way, frames of
// a message and a record block (docs/protocols.md). Integers are
// little-endian. It holds no state besides the buffers given to it; a frame
// over the limit, or one whose lengths contradict each other, is an error of
// kind Corrupt and the connection is of no further use.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// Version is the protocol version, the only one so far.
const Version = 1

const (
	magic        = "MRSH"
	prefaceBytes = len(magic) + 2
	// HeaderBytes precede the message: length of the rest, length of the
	// message.
	HeaderBytes = 8
	// MaxFrameBytes bounds a frame: a block and a message with it. Catalogs
	// are the longest messages.
	MaxFrameBytes = block.MaxBytes + 16<<20
)

// WritePreface opens a connection; both sides send one.
func WritePreface(w io.Writer) error {
	var p [prefaceBytes]byte
	copy(p[:], magic)
	binary.LittleEndian.PutUint16(p[len(magic):], Version)
	_, err := w.Write(p[:])
	return err
}

// ReadPreface checks the other side's.
func ReadPreface(r io.Reader) error {
	var p [prefaceBytes]byte
	if _, err := io.ReadFull(r, p[:]); err != nil {
		return fmt.Errorf("read the preface of a shard connection: %w", err)
	}
	if string(p[:len(magic)]) != magic {
		return stream.Errorf(stream.InvalidArgument, "the other side does not speak the shard protocol: it begins with %q", p[:len(magic)])
	}
	if v := binary.LittleEndian.Uint16(p[len(magic):]); v != Version {
		return stream.Errorf(stream.InvalidArgument, "the other side speaks version %d of the shard protocol, this one %d: upgrade the older process", v, Version)
	}
	return nil
}

// AppendMessage appends the header of a frame and its message; the block's
// bytes must follow on the connection.
func AppendMessage(dst []byte, m proto.Message, records block.Block) ([]byte, error) {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderBytes)...)
	dst, err := proto.MarshalOptions{}.MarshalAppend(dst, m)
	if err != nil {
		return dst[:at], fmt.Errorf("encode a shard frame: %w", err)
	}
	size := len(dst) - at - HeaderBytes
	if total := 4 + size + len(records); total > MaxFrameBytes {
		return dst[:at], stream.Errorf(stream.LimitExceeded, "frame of %d bytes is over the limit of %d", total, MaxFrameBytes)
	}
	binary.LittleEndian.PutUint32(dst[at:], uint32(4+size+len(records)))
	binary.LittleEndian.PutUint32(dst[at+4:], uint32(size))
	return dst, nil
}

// Reader reads frames.
type Reader struct {
	r       *bufio.Reader
	scratch []byte
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Preface reads the other side's preface.
func (r *Reader) Preface() error { return ReadPreface(r.r) }

// Next reads a frame into m and returns its block, which is the caller's, nil
// if there is none, and verified. io.EOF is a clean end between frames.
func (r *Reader) Next(m proto.Message) (block.Block, error) {
	var h [HeaderBytes]byte
	if _, err := io.ReadFull(r.r, h[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read a shard frame: %w", err)
	}
	total, size := binary.LittleEndian.Uint32(h[:]), binary.LittleEndian.Uint32(h[4:])
	if total > MaxFrameBytes || total < 4 || size > total-4 || total-4-size > block.MaxBytes {
		return nil, stream.Errorf(stream.Corrupt, "shard frame of %d bytes with a message of %d: over the limit or damaged", total, size)
	}
	if cap(r.scratch) < int(size) {
		r.scratch = make([]byte, size)
	}
	message := r.scratch[:size]
	if _, err := io.ReadFull(r.r, message); err != nil {
		return nil, fmt.Errorf("read a shard frame: %w", err)
	}
	if err := proto.Unmarshal(message, m); err != nil {
		return nil, stream.Errorf(stream.Corrupt, "message of a shard frame does not decode: %w", err)
	}
	var records block.Block
	if n := total - 4 - size; n > 0 {
		records = make(block.Block, n)
		if _, err := io.ReadFull(r.r, records); err != nil {
			return nil, fmt.Errorf("read the block of a shard frame: %w", err)
		}
		if err := records.Verify(); err != nil {
			return nil, err
		}
	}
	return records, nil
}
