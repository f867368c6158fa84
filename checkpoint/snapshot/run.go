package snapshot

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// A run in which no key group has two blocks is of version 1.
const (
	magic        = "MRRN"
	versionPlain = 1
	versionSplit = 2
	fixedHead    = 60
	crcOffset    = 16
	flagFull     = 1
	tagDelete    = 1
	tagSame      = 2
	maxGroups    = 1 << 15
	maxNameSize  = 1 << 16
)

// Run is an encoded run, in memory or in a file that has no name.
type Run struct {
	// Bytes are the run where it is small.
	Bytes []byte
	// KeyGroupFirst and KeyGroupLast are the key groups that the run speaks
	// for, inclusive.
	KeyGroupFirst int
	KeyGroupLast  int
	Entries       int

	apart *apart
}

// apart is a run whose blocks are elsewhere, in a file or in chunks of memory.
type apart struct {
	head   []byte
	blocks io.ReaderAt
	offset int64 // of the blocks
	length int64
	crc    uint32 // of the blocks
}

// Empty says that the run changes nothing: no checkpoint needs to name it.
func (r Run) Empty() bool { return r.Size() == 0 }

// Size is the length of the run in bytes.
func (r Run) Size() int64 {
	if r.apart == nil {
		return int64(len(r.Bytes))
	}
	return int64(len(r.apart.head)) + r.apart.length
}

// Open reads the run from its beginning, any number of times until Close.
func (r Run) Open() io.Reader {
	if r.apart == nil {
		return bytes.NewReader(r.Bytes)
	}
	return io.MultiReader(bytes.NewReader(r.apart.head), io.NewSectionReader(r.apart.blocks, r.apart.offset, r.apart.length))
}

// ReadAt reads a part of the run.
func (r Run) ReadAt(p []byte, offset int64) (int, error) {
	if r.apart == nil {
		return bytes.NewReader(r.Bytes).ReadAt(p, offset)
	}
	n := 0
	if head := int64(len(r.apart.head)); offset < head {
		if n = copy(p, r.apart.head[offset:]); n == len(p) {
			return n, nil
		}
	}
	m, err := io.NewSectionReader(r.apart.blocks, r.apart.offset, r.apart.length).ReadAt(p[n:], offset+int64(n)-int64(len(r.apart.head)))
	return n + m, err
}

// Close frees the file of a run that is not in memory. It may be left out:
// the file goes with the run.
func (r Run) Close() error {
	if r.apart == nil {
		return nil
	}
	if file, ok := r.apart.blocks.(io.Closer); ok {
		return file.Close()
	}
	return nil
}

func (r Run) crc() uint32 {
	if r.apart == nil {
		return crc32.Checksum(r.Bytes, castagnoli)
	}
	return combine(crc32.Checksum(r.apart.head, castagnoli), r.apart.crc, r.apart.length)
}

// Ref is the reference to a run that lies at offset in an object.
func (r Run) Ref(object string, offset uint64) *pb.RunRef {
	return &pb.RunRef{
		Object:        object,
		Offset:        offset,
		Length:        uint64(r.Size()),
		Crc32C:        r.crc(),
		KeyGroupFirst: uint32(r.KeyGroupFirst),
		KeyGroupLast:  uint32(r.KeyGroupLast),
		Entries:       uint64(r.Entries),
	}
}

// Inline is the reference to a run that travels inside its message. It shares
// the run's bytes, which must be there.
func (r Run) Inline() *pb.RunRef {
	ref := r.Ref("", 0)
	ref.Inline = r.Bytes
	return ref
}

// All reads the run to memory. It may share the run's bytes.
func (r Run) All() ([]byte, error) {
	if r.apart == nil {
		return r.Bytes, nil
	}
	all := make([]byte, r.Size())
	if _, err := r.ReadAt(all, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read a run: %w", err)
	}
	return all, nil
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
