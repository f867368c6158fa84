package shardlog

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/stream"
)

// ID names a shard.
type ID struct {
	Generation uint64
	Shard      uint32
}

// String is "generation/shard".
func (id ID) String() string { return fmt.Sprintf("%d/%d", id.Generation, id.Shard) }

func (id ID) sequence(place uint64) stream.Sequence {
	return stream.NewSequence(id.Generation, id.Shard, place)
}

// The first byte of a key says what it is. All integers in keys are
// big-endian, so that keys sort by their fields.
const (
	keyFormat      = '!' // format version of the store
	keyCommitted   = 'c' // + shard, last place: a transaction in the log
	keySealed      = 'e' // + shard: it takes no more records
	keySink        = 'k' // + shard, sink: fence and commits of (lineage, sink)
	keyShard       = 'm' // + shard: the shard exists
	keyRecords     = 'r' // + shard, last place, entry kind: a block of the log
	keyStaged      = 's' // + shard, transaction, subtask, block: its records
	keyUncommitted = 'u' // + the same: it is staged and not committed
)

// shardKinds are the keys that begin with a shard.
var shardKinds = [...]byte{keyCommitted, keySealed, keySink, keyShard, keyRecords, keyStaged, keyUncommitted}

// An entry of the log holds its records, or says where they were staged. The
// kind is the last byte of its key.
const (
	entryBlock   = 0
	entryPointer = 1

	recordsKeyBytes = 1 + 16 + 1
)

func shardKey(kind byte, id ID) []byte {
	k := make([]byte, 9, 48)
	k[0] = kind
	binary.BigEndian.PutUint32(k[1:], uint32(id.Generation))
	binary.BigEndian.PutUint32(k[5:], id.Shard)
	return k
}

func idOfKey(k []byte) (ID, error) {
	if len(k) < 9 {
		return ID{}, stream.Errorf(stream.Corrupt, "key %x of the shard log is too short", k)
	}
	return ID{Generation: uint64(binary.BigEndian.Uint32(k[1:])), Shard: binary.BigEndian.Uint32(k[5:])}, nil
}

// recordsKey is the key of the log entry whose last record has this place; as
// a bound it is below both kinds of entry there.
func recordsKey(id ID, last uint64) []byte {
	return binary.BigEndian.AppendUint64(shardKey(keyRecords, id), last)
}

func lastPlaceOf(recordsKey []byte) uint64 { return binary.BigEndian.Uint64(recordsKey[9:]) }

func entryKindOf(recordsKey []byte) byte { return recordsKey[len(recordsKey)-1] }

func committedKey(id ID, last uint64) []byte {
	return binary.BigEndian.AppendUint64(shardKey(keyCommitted, id), last)
}

func sinkKey(id ID, sink uint32) []byte {
	return binary.BigEndian.AppendUint32(shardKey(keySink, id), sink)
}

// txID is a transaction of a sink whose number in the shard is known.
type txID struct {
	sink              uint32
	epoch, checkpoint uint64
}

// blockID is one block of a transaction; blocks sort by subtask, then number.
type blockID struct {
	subtask uint32
	block   uint64
}

func txKey(kind byte, id ID, tx txID) []byte {
	k := shardKey(kind, id)
	k = binary.BigEndian.AppendUint32(k, tx.sink)
	k = binary.BigEndian.AppendUint64(k, tx.epoch)
	return binary.BigEndian.AppendUint64(k, tx.checkpoint)
}

func blockKey(kind byte, id ID, tx txID, b blockID) []byte {
	k := binary.BigEndian.AppendUint32(txKey(kind, id, tx), b.subtask)
	return binary.BigEndian.AppendUint64(k, b.block)
}

const blockKeyBytes = 9 + 4 + 8 + 8 + 4 + 8

func parseBlockKey(k []byte) (txID, blockID, error) {
	if len(k) != blockKeyBytes {
		return txID{}, blockID{}, stream.Errorf(stream.Corrupt, "key %x of the shard log has %d bytes, want %d", k, len(k), blockKeyBytes)
	}
	tx := txID{
		sink:       binary.BigEndian.Uint32(k[9:]),
		epoch:      binary.BigEndian.Uint64(k[13:]),
		checkpoint: binary.BigEndian.Uint64(k[21:]),
	}
	block := blockID{
		subtask: binary.BigEndian.Uint32(k[29:]),
		block:   binary.BigEndian.Uint64(k[33:]),
	}
	return tx, block, nil
}

// after is the first key that does not begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
