package shardlog

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/millrace/millrace/stream"
)

// pointer is a log entry whose records were staged before.
type pointer struct {
	tx      txID
	block   blockID
	first   uint64
	count   uint32
	arrival int64
}

const pointerBytes = 4 + 8 + 8 + 4 + 8 + 8 + 4 + 8

func (p pointer) encode(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, p.tx.sink)
	dst = binary.LittleEndian.AppendUint64(dst, p.tx.epoch)
	dst = binary.LittleEndian.AppendUint64(dst, p.tx.checkpoint)
	dst = binary.LittleEndian.AppendUint32(dst, p.block.subtask)
	dst = binary.LittleEndian.AppendUint64(dst, p.block.block)
	dst = binary.LittleEndian.AppendUint64(dst, p.first)
	dst = binary.LittleEndian.AppendUint32(dst, p.count)
	return binary.LittleEndian.AppendUint64(dst, uint64(p.arrival))
}

func decodePointer(b []byte) (pointer, error) {
	if len(b) != pointerBytes {
		return pointer{}, stream.Errorf(stream.Corrupt, "pointer of the shard log has %d bytes, want %d", len(b), pointerBytes)
	}
	le := binary.LittleEndian
	return pointer{
		tx:      txID{sink: le.Uint32(b), epoch: le.Uint64(b[4:]), checkpoint: le.Uint64(b[12:])},
		block:   blockID{subtask: le.Uint32(b[20:]), block: le.Uint64(b[24:])},
		first:   le.Uint64(b[32:]),
		count:   le.Uint32(b[40:]),
		arrival: int64(le.Uint64(b[44:])),
	}, nil
}

const txBytes = 4 + 8 + 8

func (t txID) encode() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, txBytes), t.sink)
	b = binary.LittleEndian.AppendUint64(b, t.epoch)
	return binary.LittleEndian.AppendUint64(b, t.checkpoint)
}

func decodeTx(b []byte) (txID, error) {
	if len(b) != txBytes {
		return txID{}, stream.Errorf(stream.Corrupt, "name of a transaction in the shard log has %d bytes, want %d", len(b), txBytes)
	}
	le := binary.LittleEndian
	return txID{sink: le.Uint32(b), epoch: le.Uint64(b[4:]), checkpoint: le.Uint64(b[12:])}, nil
}

// shardMeta is what a shard must remember besides its records.
type shardMeta struct {
	// trim is the first readable place.
	trim uint64
	// arrival of the newest record that was trimmed.
	arrival int64
}

func (m shardMeta) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, m.trim)
	return binary.LittleEndian.AppendUint64(b, uint64(m.arrival))
}

func decodeShardMeta(b []byte) (shardMeta, error) {
	if len(b) != 16 {
		return shardMeta{}, stream.Errorf(stream.Corrupt, "description of a shard has %d bytes, want 16", len(b))
	}
	return shardMeta{trim: binary.LittleEndian.Uint64(b), arrival: int64(binary.LittleEndian.Uint64(b[8:]))}, nil
}

// rememberedCommits is how many commits of a (lineage, sink) a shard can tell
// from each other; older ones it only knows to be old.
const rememberedCommits = 16

// commit is a transaction that has been made visible.
type commit struct {
	epoch, checkpoint, records uint64
}

// sinkMeta is what a shard remembers of one (lineage, sink).
type sinkMeta struct {
	lineage, sink string
	fence         uint64
	commits       []commit // ascending
}

func (m *sinkMeta) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, m.fence)
	b = append(b, byte(len(m.commits)))
	for _, c := range m.commits {
		b = binary.LittleEndian.AppendUint64(b, c.epoch)
		b = binary.LittleEndian.AppendUint64(b, c.checkpoint)
		b = binary.LittleEndian.AppendUint64(b, c.records)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.lineage)))
	b = append(b, m.lineage...)
	return append(b, m.sink...)
}

func decodeSinkMeta(b []byte) (*sinkMeta, error) {
	bad := stream.Errorf(stream.Corrupt, "description of a sink in the shard log is cut off (%d bytes)", len(b))
	if len(b) < 9 {
		return nil, bad
	}
	le := binary.LittleEndian
	m := &sinkMeta{fence: le.Uint64(b)}
	n := int(b[8])
	if b = b[9:]; len(b) < n*24+4 {
		return nil, bad
	}
	for range n {
		m.commits = append(m.commits, commit{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])})
		b = b[24:]
	}
	size := le.Uint32(b)
	if b = b[4:]; uint64(size) > uint64(len(b)) {
		return nil, bad
	}
	m.lineage, m.sink = string(b[:size]), string(b[size:])
	return m, nil
}

func (c commit) compare(epoch, checkpoint uint64) int {
	return cmp.Or(cmp.Compare(c.epoch, epoch), cmp.Compare(c.checkpoint, checkpoint))
}

// remember adds a commit and forgets the lowest above the bound, so that what
// is forgotten is below all that is remembered.
func (m *sinkMeta) remember(c commit) {
	i, _ := slices.BinarySearchFunc(m.commits, c, func(have, c commit) int { return have.compare(c.epoch, c.checkpoint) })
	m.commits = slices.Insert(m.commits, i, c)
	if len(m.commits) > rememberedCommits {
		m.commits = slices.Delete(m.commits, 0, 1)
	}
}

// find returns the commit of a transaction. old says that it is below all that
// is remembered: it was committed or dropped long ago.
func (m *sinkMeta) find(epoch, checkpoint uint64) (c commit, found, old bool) {
	for _, c := range m.commits {
		if c.compare(epoch, checkpoint) == 0 {
			return c, true, false
		}
	}
	return commit{}, false, len(m.commits) == rememberedCommits && m.commits[0].compare(epoch, checkpoint) > 0
}
