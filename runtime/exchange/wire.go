package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
)

// The wire between workers: docs/protocols.md, section 5. Integers are
// little-endian.
const (
	magic   = "MRDP"
	version = 1

	// frameHead is length, kind and channel.
	frameHead = 4 + 1 + 4
	// maxFrame bounds the length of a frame, and so the largest record.
	maxFrame = 64 << 20
	// leastCost is what a frame takes of its channel's credit at least, so
	// that small frames are bounded in number.
	leastCost = 512
	// maxPreface bounds the header after magic and version.
	maxPreface = 4 << 10
)

// Kinds of frames.
const (
	frameBatch     = 1
	frameWatermark = 2
	frameBarrier   = 3
	frameIdle      = 4
	frameActive    = 5
	frameCredit    = 6
	frameError     = 7
	frameAccepted  = 8
	frameEnd       = 9
)

const (
	barrierSavepoint = 1 << iota
	barrierTerminal
	barrierHalt
)

var errCorrupt = errors.New("corrupt frame")

// cost is what a frame of this length on the wire takes of its credit. Both
// ends compute it.
func cost(wire int) int { return max(wire, leastCost) }

// beginFrame starts a frame in an empty buffer; endFrame sets its length.
func beginFrame(dst []byte, kind byte, channel uint32) []byte {
	dst = append(dst, 0, 0, 0, 0, kind)
	return binary.LittleEndian.AppendUint32(dst, channel)
}

func endFrame(b []byte) ([]byte, error) {
	if len(b)-4 > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes, at most %d can travel: make the record smaller", len(b), maxFrame)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	return b, nil
}

// appendEvent appends the whole frame of an event.
func appendEvent(dst []byte, channel uint32, kind Kind, time int64, b barrier.Barrier) []byte {
	at := len(dst)
	switch kind {
	case Watermark:
		dst = beginFrame(dst, frameWatermark, channel)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(time))
	case Barrier:
		dst = beginFrame(dst, frameBarrier, channel)
		dst = binary.LittleEndian.AppendUint64(dst, b.ID)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(b.TriggeredMillis))
		var flags byte
		if b.Savepoint {
			flags |= barrierSavepoint
		}
		if b.Terminal {
			flags |= barrierTerminal
		}
		if b.Halt {
			flags |= barrierHalt
		}
		dst = append(dst, flags)
	case Idle:
		dst = beginFrame(dst, frameIdle, channel)
	case Active:
		dst = beginFrame(dst, frameActive, channel)
	default:
		panic("exchange: " + kind.String() + " is no event")
	}
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

func appendCredit(dst []byte, channel, bytes, bound uint32) []byte {
	at := len(dst)
	dst = beginFrame(dst, frameCredit, channel)
	dst = binary.LittleEndian.AppendUint32(dst, bytes)
	dst = binary.LittleEndian.AppendUint32(dst, bound)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// decodeEvent reads the body of a frame that is an event.
func decodeEvent(kind byte, body []byte) (Kind, int64, barrier.Barrier, error) {
	var none barrier.Barrier
	switch {
	case kind == frameWatermark && len(body) == 8:
		return Watermark, int64(binary.LittleEndian.Uint64(body)), none, nil
	case kind == frameBarrier && len(body) == 17:
		flags := body[16]
		if flags&^(barrierSavepoint|barrierTerminal|barrierHalt) != 0 {
			return None, 0, none, fmt.Errorf("%w: barrier flags %#x", errCorrupt, flags)
		}
		return Barrier, 0, barrier.Barrier{
			ID:              binary.LittleEndian.Uint64(body),
			TriggeredMillis: int64(binary.LittleEndian.Uint64(body[8:])),
			Savepoint:       flags&barrierSavepoint != 0,
			Terminal:        flags&barrierTerminal != 0,
			Halt:            flags&barrierHalt != 0,
		}, nil
	case kind == frameIdle && len(body) == 0:
		return Idle, 0, none, nil
	case kind == frameActive && len(body) == 0:
		return Active, 0, none, nil
	}
	return None, 0, none, fmt.Errorf("%w: kind %d with a body of %d bytes", errCorrupt, kind, len(body))
}

// withOps in the number of rows says that a bitmap of operations follows the
// hashes: a bit a row, from the least significant on, set for a delete.
const withOps = 1 << 31

// appendBatch appends the body of a batch frame.
func appendBatch(dst []byte, b *columns, hashed bool, k kind) []byte {
	rows := b.len()
	columns := 8 * rows
	if hashed {
		columns *= 2
	}
	dst = slices.Grow(dst, 4+columns+(len(b.Ops)+7)/8+rows*k.fixed())
	count := uint32(rows)
	if len(b.Ops) > 0 {
		count |= withOps
	}
	dst = binary.LittleEndian.AppendUint32(dst, count)
	at := len(dst)
	dst = dst[:at+columns]
	for i, t := range b.Times {
		binary.LittleEndian.PutUint64(dst[at+8*i:], uint64(t))
	}
	if hashed {
		at += 8 * rows
		for i, h := range b.Hashes {
			binary.LittleEndian.PutUint64(dst[at+8*i:], h)
		}
	}
	if len(b.Ops) > 0 {
		dst = appendOps(dst, b.Ops)
	}
	return k.encode(dst, b)
}

func appendOps(dst []byte, ops []batch.Op) []byte {
	at := len(dst)
	for range (len(ops) + 7) / 8 {
		dst = append(dst, 0)
	}
	for i, op := range ops {
		dst[at+i/8] |= byte(op) << (i % 8)
	}
	return dst
}

// decodeBatch reads the body of a batch frame into b, which is overwritten.
func decodeBatch(body []byte, b *columns, hashed bool, values decode) error {
	if len(body) < 4 {
		return fmt.Errorf("%w: a batch of %d bytes", errCorrupt, len(body))
	}
	count := binary.LittleEndian.Uint32(body)
	rows := int(count &^ withOps)
	body = body[4:]
	columns := 8 * rows
	if hashed {
		columns *= 2
	}
	if rows > batch.Rows || columns > len(body) {
		return fmt.Errorf("%w: %d rows in %d bytes", errCorrupt, rows, len(body))
	}
	b.Times = slices.Grow(b.Times[:0], rows)[:rows]
	for i := range b.Times {
		b.Times[i] = int64(binary.LittleEndian.Uint64(body[8*i:]))
	}
	body = body[8*rows:]
	b.Hashes = b.Hashes[:0]
	if hashed {
		b.Hashes = slices.Grow(b.Hashes, rows)[:rows]
		for i := range b.Hashes {
			b.Hashes[i] = binary.LittleEndian.Uint64(body[8*i:])
		}
		body = body[8*rows:]
	}
	b.Ops = b.Ops[:0]
	if count&withOps != 0 {
		bits := (rows + 7) / 8
		if bits > len(body) {
			return fmt.Errorf("%w: %d rows and no operations of all", errCorrupt, rows)
		}
		b.Ops = slices.Grow(b.Ops, rows)[:rows]
		for i := range b.Ops {
			b.Ops[i] = batch.Op(body[i/8] >> (i % 8) & 1)
		}
		body = body[bits:]
	}
	rest, err := values(body, b, rows)
	if err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes after the last of %d records", errCorrupt, len(rest), rows)
	}
	return nil
}

// preface is what the sender of a connection says first.
type preface struct {
	job      string
	epoch    uint64
	sender   uint32
	receiver uint32
	token    string
}

func (p *preface) append(dst []byte) []byte {
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint16(dst, version)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(8+4+4+2+len(p.job)+2+len(p.token)))
	dst = binary.LittleEndian.AppendUint64(dst, p.epoch)
	dst = binary.LittleEndian.AppendUint32(dst, p.sender)
	dst = binary.LittleEndian.AppendUint32(dst, p.receiver)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(p.job)))
	dst = append(dst, p.job...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(p.token)))
	return append(dst, p.token...)
}

// readPreface reads a preface. A *RefusedError says why the peer cannot be
// spoken with, any other error that it could not be read.
func readPreface(r io.Reader) (preface, error) {
	var p preface
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return p, err
	}
	if string(head[:4]) != magic {
		return p, &RefusedError{Code: "protocol-mismatch", Message: fmt.Sprintf("the connection begins with %q, not %q: no worker of this system", head[:4], magic)}
	}
	if v := binary.LittleEndian.Uint16(head[4:]); v != version {
		return p, &RefusedError{Code: "protocol-mismatch", Message: fmt.Sprintf("data plane version %d, this worker speaks %d", v, version)}
	}
	size := int(binary.LittleEndian.Uint16(head[6:]))
	if size < 20 || size > maxPreface {
		return p, &RefusedError{Code: "protocol-mismatch", Message: fmt.Sprintf("a preface of %d bytes", size)}
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return p, err
	}
	p.epoch = binary.LittleEndian.Uint64(b)
	p.sender = binary.LittleEndian.Uint32(b[8:])
	p.receiver = binary.LittleEndian.Uint32(b[12:])
	b = b[16:]
	var ok bool
	if p.job, b, ok = readText(b); ok {
		p.token, b, ok = readText(b)
	}
	if !ok || len(b) != 0 {
		return p, &RefusedError{Code: "protocol-mismatch", Message: "a preface that does not parse"}
	}
	return p, nil
}

func readText(b []byte) (text string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	if len(b) < 2+n {
		return "", nil, false
	}
	return string(b[2 : 2+n]), b[2+n:], true
}

// RefusedError is a connection that the other worker did not take.
type RefusedError struct {
	// Code is of the error catalogue.
	Code    string
	Message string
}

func (e *RefusedError) Error() string { return e.Message }

func (e *RefusedError) appendFrame(dst []byte) []byte {
	at := len(dst)
	dst = beginFrame(dst, frameError, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(e.Code)))
	dst = append(dst, e.Code...)
	dst = append(dst, e.Message...)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

func decodeRefusal(body []byte) error {
	code, rest, ok := readText(body)
	if !ok {
		return fmt.Errorf("%w: error frame of %d bytes", errCorrupt, len(body))
	}
	return &RefusedError{Code: code, Message: string(rest)}
}

// frameReader reads frames off a connection.
type frameReader struct {
	r io.Reader
	// head is here and not on the stack so that a read does not allocate.
	head [frameHead]byte
}

// next reads the head of a frame and returns the length of its body.
func (f *frameReader) next() (kind byte, channel uint32, body int, err error) {
	if _, err = io.ReadFull(f.r, f.head[:]); err != nil {
		return 0, 0, 0, err
	}
	length := binary.LittleEndian.Uint32(f.head[:])
	if length < frameHead-4 || length > maxFrame {
		return 0, 0, 0, fmt.Errorf("%w: length %d", errCorrupt, length)
	}
	return f.head[4], binary.LittleEndian.Uint32(f.head[5:]), int(length) - (frameHead - 4), nil
}
