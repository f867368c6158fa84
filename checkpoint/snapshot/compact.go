package snapshot

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/millrace/millrace/blob"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// MaxChain is the longest chain of runs that a restore should have to merge.
const MaxChain = 16

// ShouldCompact decides, for the runs of one subtask of one operator with the
// newest delta among them, whether to write a full run in their place: when
// dead bytes exceed live ones, or the chain is longer than MaxChain. live is
// the size of the state as its store knows it. It never says so for a single
// run.
func ShouldCompact(chain []*pb.RunRef, delta Run, live uint64) bool {
	runs, total := len(chain), uint64(len(delta.Bytes))
	if !delta.Empty() {
		runs++
	}
	for _, ref := range chain {
		total += ref.GetLength()
	}
	if runs < 2 {
		return false
	}
	// A full run of small entries is larger than the store's own estimate; a
	// floor keeps state of a few kilobytes from being rewritten every time.
	return runs > MaxChain || total > 2*max(live, minDead)
}

const minDead = 64 << 10

// Compact merges a chain and the newest delta to one full run for the key
// groups first to last. It may block on the bucket.
func Compact(ctx context.Context, b blob.Bucket, chain []*pb.RunRef, delta Run, maxParallelism, first, last int) (Run, error) {
	readers, err := OpenChain(ctx, b, chain, first, last)
	if err != nil {
		return Run{}, fmt.Errorf("compact: %w", err)
	}
	if !delta.Empty() {
		r, err := Open("(delta)", delta.Bytes, first, last)
		if err != nil {
			return Run{}, fmt.Errorf("compact: %w", err)
		}
		readers = append(readers, r)
	}
	w := NewWriter(maxParallelism)
	w.Own(first, last)
	w.Full()
	m := Merge(readers)
	for m.Next() {
		e := m.Entry()
		w.Put(e.Group, e.State, e.Namespace, e.Key, e.Value)
	}
	if err := m.Err(); err != nil {
		return Run{}, fmt.Errorf("compact: %w", err)
	}
	return w.Finish()
}

// OpenChain fetches and opens the runs of a chain that overlap the key groups
// first to last, oldest first.
func OpenChain(ctx context.Context, b blob.Bucket, chain []*pb.RunRef, first, last int) ([]*Reader, error) {
	var readers []*Reader
	for _, ref := range chain {
		if int(ref.GetKeyGroupFirst()) > last || int(ref.GetKeyGroupLast()) < first {
			continue
		}
		data, err := Fetch(ctx, b, ref)
		if err != nil {
			return nil, err
		}
		r, err := Open(NameOf(ref), data, first, last)
		if err != nil {
			return nil, err
		}
		readers = append(readers, r)
	}
	return readers, nil
}

// Fetch returns the bytes of a run, which are those that its reference was
// made for, or an error.
func Fetch(ctx context.Context, b blob.Bucket, ref *pb.RunRef) ([]byte, error) {
	data := ref.GetInline()
	if ref.GetObject() != "" {
		var err error
		data, _, err = b.Get(ctx, ref.GetObject(), int64(ref.GetOffset()), int64(ref.GetLength()))
		if err != nil {
			return nil, fmt.Errorf("read run %s: %w", NameOf(ref), err)
		}
	}
	if uint64(len(data)) != ref.GetLength() {
		return nil, &CorruptError{
			Object: NameOf(ref), Offset: int64(len(data)), Truncated: uint64(len(data)) < ref.GetLength(),
			Reason: fmt.Sprintf("%d bytes, its manifest says %d", len(data), ref.GetLength()),
		}
	}
	if crc := crc32.Checksum(data, castagnoli); crc != ref.GetCrc32C() {
		return nil, &CorruptError{
			Object: NameOf(ref), Offset: flipped(data),
			Reason: fmt.Sprintf("CRC %08x, its manifest says %08x", crc, ref.GetCrc32C()),
		}
	}
	return data, nil
}

// flipped finds the part of a damaged run that does not check, 0 if each does.
func flipped(data []byte) int64 {
	var c *CorruptError
	if _, err := Open("", data, 0, maxGroups); errors.As(err, &c) {
		return c.Offset
	}
	return 0
}

// NameOf is how errors name a run.
func NameOf(ref *pb.RunRef) string {
	if ref.GetObject() == "" {
		return "(inline)"
	}
	if ref.GetOffset() == 0 {
		return ref.GetObject()
	}
	return fmt.Sprintf("%s+%d", ref.GetObject(), ref.GetOffset())
}
