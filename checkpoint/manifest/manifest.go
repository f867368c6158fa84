package manifest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/snapshot"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const (
	magic     = "MRMF"
	version   = 1
	headSize  = 20
	crcOffset = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CorruptError is an object that is not what its writer wrote.
type CorruptError struct {
	Object string
	// Offset is in bytes from the beginning of the object.
	Offset int64
	Reason string
	// Truncated says that bytes are missing at the end.
	Truncated bool
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("manifest %s is corrupt at offset %d: %s", e.Object, e.Offset, e.Reason)
}

// Encode returns the bytes of a manifest object.
func Encode(m *pb.Manifest) ([]byte, error) {
	data := make([]byte, headSize, headSize+proto.Size(m))
	data, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(data, m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest of checkpoint %d: %w", m.GetCheckpointId(), err)
	}
	le := binary.LittleEndian
	copy(data, magic)
	le.PutUint16(data[4:], version)
	le.PutUint64(data[8:], uint64(len(data)))
	le.PutUint32(data[crcOffset:], crcOf(data))
	return data, nil
}

func crcOf(data []byte) uint32 {
	crc := crc32.Update(0, castagnoli, data[:crcOffset])
	return crc32.Update(crc, castagnoli, data[headSize:])
}

// Decode checks the bytes of a manifest object and returns what they say.
// name is the object that errors name.
func Decode(name string, data []byte) (*pb.Manifest, error) {
	corrupt := func(offset int, format string, args ...any) error {
		return &CorruptError{Object: name, Offset: int64(offset), Reason: fmt.Sprintf(format, args...)}
	}
	le := binary.LittleEndian
	if len(data) < headSize {
		return nil, &CorruptError{
			Object: name, Offset: int64(len(data)), Truncated: true,
			Reason: fmt.Sprintf("truncated: %d bytes, a manifest has at least %d", len(data), headSize),
		}
	}
	if string(data[:4]) != magic {
		return nil, corrupt(0, "magic %q, want %q: this is no manifest", data[:4], magic)
	}
	if v := le.Uint16(data[4:]); v != version {
		return nil, corrupt(4, "version %d, this build reads version %d", v, version)
	}
	if n := le.Uint64(data[8:]); n > uint64(len(data)) {
		return nil, &CorruptError{
			Object: name, Offset: int64(len(data)), Truncated: true,
			Reason: fmt.Sprintf("truncated: %d bytes, its head says %d", len(data), n),
		}
	} else if n < uint64(len(data)) {
		return nil, corrupt(8, "length %d, but the object has %d bytes", n, len(data))
	}
	if got, want := crcOf(data), le.Uint32(data[crcOffset:]); got != want {
		return nil, corrupt(crcOffset, "CRC %08x, want %08x: a bit has flipped", got, want)
	}
	if le.Uint16(data[6:]) != 0 {
		return nil, corrupt(6, "reserved field is not 0")
	}
	m := &pb.Manifest{}
	if err := proto.Unmarshal(data[headSize:], m); err != nil {
		return nil, corrupt(headSize, "body: %v", err)
	}
	return m, nil
}

// Write encodes a manifest and puts it at key.
func Write(ctx context.Context, b blob.Bucket, key string, m *pb.Manifest) error {
	data, err := Encode(m)
	if err != nil {
		return err
	}
	if err := b.Put(ctx, key, bytes.NewReader(data), int64(len(data))); err != nil {
		return fmt.Errorf("write manifest: %w", err) // the bucket names the object
	}
	return nil
}

// Read returns the manifest at key. Its error wraps blob.ErrNotFound where
// there is none, and is or wraps a *CorruptError where it is damaged.
func Read(ctx context.Context, b blob.Bucket, key string) (*pb.Manifest, error) {
	data, _, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return Decode(key, data)
}

// Objects lists the bucket keys that a manifest names, sorted, each once.
func Objects(m *pb.Manifest) []string { return checkpoint.Objects(m) }

// Code is the catalogue's code for an error of this package or of package
// snapshot: snapshot-truncated, snapshot-corrupt or snapshot-missing; empty
// for others, which may pass.
func Code(err error) string {
	var c *CorruptError
	var run *snapshot.CorruptError
	switch {
	case errors.As(err, &c) && c.Truncated, errors.As(err, &run) && run.Truncated:
		return "snapshot-truncated"
	case errors.As(err, &c), errors.As(err, &run):
		return "snapshot-corrupt"
	case errors.Is(err, blob.ErrNotFound):
		return "snapshot-missing"
	}
	return ""
}
