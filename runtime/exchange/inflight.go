package exchange

import (
	"fmt"

	"github.com/millrace/millrace/checkpoint/inflight"
	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/keygroup"
)

// A barrier waits behind the batches that came before it. A task that takes too
// long over them, because its operator is slow or has work of its own to finish
// first, lets the barrier overtake them: they stay in the queue, and what is
// still there when the barriers of all channels have come is part of the
// checkpoint. After a restore they come first.

// mostInFlight bounds what the barriers of one checkpoint overtake, over the whole
// job: it travels in acks, and all of it in each Deploy, whose frames hold 64 MiB. A
// channel has an even share, and as much a batch that was begun, or came with a
// restore. A barrier behind more than that waits until less is before it.
const mostInFlight = 16 << 20

// TakeBarrier implements Gate.
func (g *gate) TakeBarrier(overtake bool) (Item, bool) {
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
		at, size := 0, 0
		for ; c.items.at(at).kind != Barrier; at++ {
			if it := c.items.at(at); it.kind == Data {
				size += it.bytes + g.headSize
			}
		}
		past := at > 0 || len(g.resumed) > 0
		if past && (!overtake || size > g.share || g.waiting > g.share*len(g.mu.channels) || !c.overtaken(c.items.at(at).barrier)) {
			continue
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

// overtaken says whether what is before a barrier may be left behind it: not
// behind the job's end, and not where records belong to one subtask by its number
// alone. Of another parallelism nobody would know which records of a key are to
// come first.
func (c *channel) overtaken(b barrier.Barrier) bool {
	return !b.Terminal && c.edge.overtaken()
}

// Pressed implements Gate.
func (g *gate) Pressed() bool {
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
func (g *gate) InFlight() [][]byte {
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

func (c *channel) flags() inflight.Flags { return inflight.FlagsOf(c.edge.Ship, c.edge.Updates) }

// flight encodes a batch, or one that came encoded.
func (g *gate) flight(flags inflight.Flags, b *columns, frame []byte) []byte {
	out := g.head(flags)
	if frame != nil {
		return append(out, frame...)
	}
	return appendBatch(out, b, flags&inflight.Hashed != 0, g)
}

// head is what comes before the records.
func (g *gate) head(flags inflight.Flags) []byte {
	r := inflight.Records{Flags: flags, Subtask: uint64(g.subtask), Parallelism: uint64(g.receivers), Schema: g.schema()}
	return r.AppendHeader(nil)
}

// resumed is a batch from before a restore, or what is left of one that a slow
// operator takes in pieces.
type resumed struct {
	flags inflight.Flags
	batch *columns
	bytes int // of the whole batch, encoded
}

// Resume implements Gate.
func (g *gate) Resume(flights [][]byte) error {
	for _, f := range flights {
		if err := g.resume(f); err != nil {
			return fmt.Errorf("in-flight records of %s: %w", g.name, err)
		}
	}
	return nil
}

func (g *gate) resume(f []byte) error {
	r, err := inflight.Parse(f)
	if err != nil {
		return err
	}
	if !g.takes(r.Flags) {
		return fmt.Errorf("they were %s, and the input takes none that are: keep how it is partitioned and whether it is a stream of updates, or take a savepoint with stop", r.Flags)
	}
	hashed := r.Flags&inflight.Hashed != 0
	decode := g.decode
	if r.Schema != g.schema() {
		if decode, err = g.decoder(r.Schema); err != nil {
			return err
		}
	}
	b := g.make()
	if err := decodeBatch(r.Body, b, hashed, decode); err != nil {
		return err
	}
	switch {
	case hashed:
		g.keepOwn(b)
	case r.Flags&inflight.Broadcast != 0:
		if uint64(g.subtask)%r.Parallelism != r.Subtask {
			return nil
		}
	case r.Subtask%uint64(g.receivers) != uint64(g.subtask):
		return nil
	}
	if b.len() > 0 {
		g.resumed = append(g.resumed, resumed{r.Flags, b, len(f)})
		g.waiting += len(f)
	}
	return nil
}

// takes says whether records that travel so come in here.
func (g *gate) takes(flags inflight.Flags) bool {
	for i := range g.mu.channels {
		if g.mu.channels[i].flags() == flags {
			return true
		}
	}
	return false
}

// keepOwn leaves of a batch what this subtask owns now.
func (g *gate) keepOwn(b *columns) {
	n := 0
	for i, h := range b.Hashes {
		if keygroup.Owner(keygroup.Of(h, g.groups), g.receivers, g.groups) != g.subtask {
			continue
		}
		g.move(b, n, i)
		b.Times[n], b.Hashes[n] = b.Times[i], h
		if len(b.Ops) > 0 {
			b.Ops[n] = b.Ops[i]
		}
		n++
	}
	g.clear(b, n)
	b.values.len = n
	b.Times, b.Hashes, b.Ops = b.Times[:n], b.Hashes[:n], b.Ops[:min(n, len(b.Ops))]
}
