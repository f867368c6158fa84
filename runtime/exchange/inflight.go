package exchange

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// A barrier waits behind the batches that came before it. A task that takes too
// long over them, because its operator is slow or has work of its own to finish
// first, lets the barrier overtake them: they stay in the queue, and what is
// still there when the barriers of all channels have come is part of the
// checkpoint. After a restore they come first.
//
// In-flight records, version 1: docs/formats/inflight.md.

const (
	flightVersion = 1

	flightHashed    = 1 << 0
	flightBroadcast = 1 << 1
)

// TakeBarrier implements Gate.
func (g *gate[T]) TakeBarrier(overtake bool) (Item, bool) {
	g.mu.Lock()
	if g.mu.barriers == 0 {
		g.mu.Unlock()
		return Item{}, false
	}
	for i := range g.mu.channels {
		c := &g.mu.channels[i]
		if c.blocked || c.barriers == 0 {
			continue
		}
		at := 0
		for c.items.at(at).kind != Barrier {
			at++
		}
		if past := at > 0 || len(g.resumed) > 0; past && (!overtake || c.items.at(at).barrier.Terminal) {
			continue // nothing may be left behind the job's end
		}
		it := c.items.remove(at)
		c.barriers--
		g.mu.barriers--
		c.ahead = at
		g.mu.Unlock()
		g.release(i, &it, 0)
		return Item{Kind: Barrier, Channel: i, Barrier: it.barrier}, true
	}
	g.mu.Unlock()
	return Item{}, false
}

// Pressed implements Gate.
func (g *gate[T]) Pressed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.barriers == 0 {
		return false
	}
	for i := range g.mu.channels {
		if c := &g.mu.channels[i]; !c.blocked && c.barriers > 0 {
			return true
		}
	}
	return false
}

// InFlight implements Gate.
func (g *gate[T]) InFlight() [][]byte {
	var out [][]byte
	for _, r := range g.resumed {
		out = append(out, g.flight(r.flags, r.batch, nil))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.mu.channels {
		c := &g.mu.channels[i]
		for k := range c.ahead {
			// Event time is told again after a restore.
			it := c.items.at(k)
			if it.kind != Data {
				continue
			}
			out = append(out, g.flight(c.flags(), it.batch, it.frame))
		}
		c.ahead = 0
	}
	return out
}

func (c *channel[T]) flags() (f byte) {
	if c.hashed {
		f |= flightHashed
	}
	if c.edge.Ship == pb.Ship_SHIP_BROADCAST {
		f |= flightBroadcast
	}
	return f
}

// flight encodes a batch, or one that came encoded.
func (g *gate[T]) flight(flags byte, b *batch.Batch[T], frame []byte) []byte {
	schema := g.codec.Schema()
	out := []byte{flightVersion, flags}
	out = binary.AppendUvarint(out, uint64(g.subtask))
	out = binary.AppendUvarint(out, uint64(g.receivers))
	out = binary.AppendUvarint(out, uint64(len(schema)))
	out = append(out, schema...)
	if frame != nil {
		return append(out, frame...)
	}
	return appendBatch(out, b, flags&flightHashed != 0, g.codec)
}

// resumed is a batch from before a restore.
type resumed[T any] struct {
	flags byte
	batch *batch.Batch[T]
}

// Resume implements Gate.
func (g *gate[T]) Resume(flights [][]byte) error {
	for _, f := range flights {
		if err := g.resume(f); err != nil {
			return fmt.Errorf("in-flight records of %s: %w", g.name, err)
		}
	}
	return nil
}

func (g *gate[T]) resume(f []byte) error {
	if len(f) < 2 || f[0] != flightVersion {
		return fmt.Errorf("%w: they are not of version %d", errCorrupt, flightVersion)
	}
	flags, rest := f[1], f[2:]
	var head [3]uint64 // subtask, parallelism, length of the schema
	for i := range head {
		n, w := binary.Uvarint(rest)
		if w <= 0 {
			return fmt.Errorf("%w: they are cut off", errCorrupt)
		}
		head[i], rest = n, rest[w:]
	}
	if head[2] > uint64(len(rest)) || head[1] == 0 {
		return fmt.Errorf("%w: they are cut off", errCorrupt)
	}
	b := &batch.Batch[T]{}
	if err := decodeOld(rest[head[2]:], b, flags&flightHashed != 0, string(rest[:head[2]]), g.codec); err != nil {
		return err
	}
	switch {
	case flags&flightHashed != 0:
		g.keepOwn(b)
	case flags&flightBroadcast != 0:
		if uint64(g.subtask)%head[1] != head[0] {
			return nil
		}
	case head[0]%uint64(g.receivers) != uint64(g.subtask):
		return nil
	}
	if b.Len() > 0 {
		g.resumed = append(g.resumed, resumed[T]{flags, b})
	}
	return nil
}

// keepOwn leaves of a batch what this subtask owns now.
func (g *gate[T]) keepOwn(b *batch.Batch[T]) {
	n := 0
	for i, h := range b.Hashes {
		if keygroup.Owner(keygroup.Of(h, g.groups), g.receivers, g.groups) != g.subtask {
			continue
		}
		b.Values[n], b.Times[n], b.Hashes[n] = b.Values[i], b.Times[i], h
		n++
	}
	clear(b.Values[n:])
	b.Values, b.Times, b.Hashes = b.Values[:n], b.Times[:n], b.Hashes[:n]
}

// decodeOld is decodeBatch of records that an earlier version of their type may
// have written.
func decodeOld[T any](body []byte, b *batch.Batch[T], hashed bool, schema string, c codec.Codec[T]) error {
	if schema == c.Schema() {
		return decodeBatch(body, b, hashed, c)
	}
	one, err := codec.DecoderFor[T](schema)
	if err != nil {
		return err
	}
	return decodeRows(body, b, hashed, func(src []byte, vs []T) ([]byte, error) {
		for i := range vs {
			if src, err = one(src, &vs[i]); err != nil {
				return nil, err
			}
		}
		return src, nil
	})
}
