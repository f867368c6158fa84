package snapshot

import (
	"fmt"
	"hash/crc32"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const (
	magic       = "MRRN"
	version     = 1
	fixedHead   = 60
	crcOffset   = 16
	flagFull    = 1
	tagDelete   = 1
	tagSame     = 2
	maxGroups   = 1 << 15
	maxNameSize = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Run is an encoded run.
type Run struct {
	Bytes []byte
	// KeyGroupFirst and KeyGroupLast are the key groups that the run speaks
	// for, inclusive.
	KeyGroupFirst int
	KeyGroupLast  int
	Entries       int
}

// Empty says that the run changes nothing: no checkpoint needs to name it.
func (r Run) Empty() bool { return len(r.Bytes) == 0 }

// Ref is the reference to a run that lies at offset in an object.
func (r Run) Ref(object string, offset uint64) *pb.RunRef {
	return &pb.RunRef{
		Object:        object,
		Offset:        offset,
		Length:        uint64(len(r.Bytes)),
		Crc32C:        crc32.Checksum(r.Bytes, castagnoli),
		KeyGroupFirst: uint32(r.KeyGroupFirst),
		KeyGroupLast:  uint32(r.KeyGroupLast),
		Entries:       uint64(r.Entries),
	}
}

// Inline is the reference to a run that travels inside its message. It shares
// the run's bytes.
func (r Run) Inline() *pb.RunRef {
	ref := r.Ref("", 0)
	ref.Inline = r.Bytes
	return ref
}

// Entry is one change. Its slices belong to the run that it was read from and
// must not be written to.
type Entry struct {
	Group     int
	State     string
	Namespace int64
	Key       []byte
	// Value is nil for a delete.
	Value  []byte
	Delete bool
}

// Drop says that every older entry of a state's namespace is gone.
type Drop struct {
	State     string
	Namespace int64
}

// CorruptError is a run that is not what its writer wrote.
type CorruptError struct {
	// Object is the bucket key, or a description of an inline run.
	Object string
	// Offset is in bytes from the beginning of the run.
	Offset int64
	Reason string
	// Truncated says that bytes are missing at the end.
	Truncated bool
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("run %s is corrupt at offset %d: %s", e.Object, e.Offset, e.Reason)
}
