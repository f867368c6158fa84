package shards

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/stream/client"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// handleVersion is the first byte of a handle (docs/formats/shard-handle.md).
const handleVersion = 1

// handle is what one subtask staged for one checkpoint: a transaction and the
// counts by shard. It is in checkpoints, so a later version must read it.
type handle struct {
	tx     *pb.Transaction
	counts []client.ShardCount
}

func (h handle) encode() []byte {
	b := []byte{handleVersion}
	b = appendText(b, h.tx.GetLineage())
	b = appendText(b, h.tx.GetSink())
	b = binary.AppendUvarint(b, h.tx.GetEpoch())
	b = binary.AppendUvarint(b, h.tx.GetCheckpoint())
	b = binary.AppendUvarint(b, uint64(len(h.counts)))
	for _, n := range h.counts {
		b = appendText(b, n.Shard.Stream)
		b = binary.AppendUvarint(b, n.Shard.Generation)
		b = binary.AppendUvarint(b, uint64(n.Shard.Index))
		b = binary.AppendUvarint(b, n.Blocks)
		b = binary.AppendUvarint(b, n.Records)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func decodeHandle(b []byte) (handle, error) {
	var h handle
	if len(b) == 0 || b[0] != handleVersion {
		return h, fmt.Errorf("it is empty or not of version %d", handleVersion)
	}
	r := handleReader{size: len(b), rest: b[1:]}
	h.tx = &pb.Transaction{Lineage: r.text(), Sink: r.text(), Epoch: r.number(), Checkpoint: r.number()}
	for n := r.number(); n > 0 && r.err == nil; n-- {
		c := client.ShardCount{Shard: client.Shard{Stream: r.text(), Generation: r.number()}}
		index := r.number()
		c.Shard.Index = uint32(index)
		if r.err == nil && uint64(c.Shard.Index) != index {
			r.fail()
		}
		c.Blocks, c.Records = r.number(), r.number()
		h.counts = append(h.counts, c)
	}
	if len(r.rest) > 0 {
		r.fail()
	}
	return h, r.err
}

// handleReader reads fields until the first that is malformed.
type handleReader struct {
	size int
	rest []byte
	err  error
}

func (r *handleReader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("it is malformed at byte %d of %d", r.size-len(r.rest), r.size)
	}
	r.rest = nil
}

func (r *handleReader) number() uint64 {
	n, w := binary.Uvarint(r.rest)
	if w <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[w:]
	return n
}

func (r *handleReader) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}
