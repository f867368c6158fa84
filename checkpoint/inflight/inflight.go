package inflight

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace/millrace/checkpoint/schema"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// ErrCorrupt is in every error about bytes that are no records in flight.
var ErrCorrupt = errors.New("corrupt records in flight")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// Version is the first byte of every entry, Flags the second.
const Version = 1

// Flags say how the records travelled.
type Flags byte

// Flags of an entry.
const (
	// Hashed: partitioned by key; hashes follow the times.
	Hashed Flags = 1 << iota
	// Broadcast: every subtask was sent a copy.
	Broadcast
	// Updates: rows of an update stream; a body may have operations.
	Updates

	known = Hashed | Broadcast | Updates
)

// FlagsOf are those of the records of an edge.
func FlagsOf(ship pb.Ship, updates bool) (f Flags) {
	if updates {
		f = Updates
	}
	switch ship {
	case pb.Ship_SHIP_HASH:
		return f | Hashed
	case pb.Ship_SHIP_BROADCAST:
		return f | Broadcast
	}
	return f
}

func (f Flags) String() string {
	how := "spread"
	switch {
	case f&Hashed != 0:
		how = "partitioned by key"
	case f&Broadcast != 0:
		how = "broadcast"
	}
	if f&Updates != 0 {
		return "updates " + how
	}
	return how
}

// Records is one batch that was on its way to a subtask.
type Records struct {
	Flags Flags
	// Subtask that they were on their way to, of Parallelism.
	Subtask, Parallelism uint64
	// Schema of a record.
	Schema string
	// Body is that of a batch frame: rows, times, hashes, operations, values.
	Body []byte
}

// AppendHeader appends everything before the body.
func (r *Records) AppendHeader(dst []byte) []byte {
	dst = append(dst, Version, byte(r.Flags))
	dst = binary.AppendUvarint(dst, r.Subtask)
	dst = binary.AppendUvarint(dst, r.Parallelism)
	dst = binary.AppendUvarint(dst, uint64(len(r.Schema)))
	return append(dst, r.Schema...)
}

// Parse reads what comes before the records. The body shares memory with value.
func Parse(value []byte) (Records, error) {
	if len(value) < 2 || value[0] != Version {
		return Records{}, corrupt("they are not of version %d", Version)
	}
	r := Records{Flags: Flags(value[1])}
	if r.Flags&^known != 0 || r.Flags&(Hashed|Broadcast) == Hashed|Broadcast {
		return Records{}, corrupt("flags are %d", r.Flags)
	}
	rest := value[2:]
	var head [3]uint64 // subtask, parallelism, length of the schema
	for i := range head {
		n, w := binary.Uvarint(rest)
		if w <= 0 {
			return Records{}, corrupt("they are cut off")
		}
		head[i], rest = n, rest[w:]
	}
	if head[2] > uint64(len(rest)) {
		return Records{}, corrupt("they are cut off")
	}
	if head[0] >= head[1] {
		return Records{}, corrupt("they were on their way to subtask %d of %d", head[0], head[1])
	}
	r.Subtask, r.Parallelism = head[0], head[1]
	r.Schema, r.Body = string(rest[:head[2]]), rest[head[2]:]
	return r, nil
}

// withOps in the number of rows says that operations follow the hashes, a bit a
// row.
const withOps = 1 << 31

// maxRows is the most that a batch has (docs/protocols.md, section 5).
const maxRows = 512

// Check reads the records by their schema and says how many there are: that they
// fill the body, and that the key group of each, of so many, was the subtask's.
func (r *Records) Check(groups int) (rows int, err error) {
	node, err := schema.Parse(r.Schema)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	body := r.Body
	if groups < 1 {
		return 0, corrupt("they are of an operator with %d key groups", groups)
	}
	if len(body) < 4 {
		return 0, corrupt("a batch of %d bytes", len(body))
	}
	count := binary.LittleEndian.Uint32(body)
	ops := count&withOps != 0
	if count &^= withOps; ops && r.Flags&Updates == 0 {
		return 0, corrupt("rows have operations, and are of no update stream")
	}
	columns := 8 * uint64(count)
	if r.Flags&Hashed != 0 {
		columns *= 2
	}
	if ops {
		columns += (uint64(count) + 7) / 8
	}
	if body = body[4:]; count > maxRows || columns > uint64(len(body)) {
		return 0, corrupt("%d rows in %d bytes", count, len(body))
	}
	rows = int(count)
	if r.Flags&Hashed != 0 {
		for i := range rows {
			group := schema.GroupOf(binary.LittleEndian.Uint64(body[8*(rows+i):]), groups)
			if owner := uint64(group) * r.Parallelism / uint64(groups); owner != r.Subtask {
				return rows, corrupt("record %d is of key group %d, which is subtask %d's of %d, and was on its way to subtask %d",
					i, group, owner, r.Parallelism, r.Subtask)
			}
		}
	}
	body = body[columns:]
	for i := range rows {
		if body, err = node.Pass(body); err != nil {
			return rows, fmt.Errorf("%w: record %d is no %s: %w", ErrCorrupt, i, r.Schema, err)
		}
	}
	if len(body) > 0 {
		return rows, corrupt("%d bytes follow the last of %d records", len(body), rows)
	}
	return rows, nil
}
