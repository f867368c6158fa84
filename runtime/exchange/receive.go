package exchange

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/pace"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// gate implements Gate.
type gate struct {
	n *Network
	kind
	// to hands a batch to the operator.
	to     func(*columns) error
	name   string
	notify chan struct{}
	press  func()
	port   int
	// subtask is one of receivers, which share groups key groups.
	subtask, receivers, groups int
	// resumed are batches from before the restore, to be taken in first, waiting
	// their bytes.
	resumed []resumed
	waiting int
	// share is how many bytes a barrier may overtake in a channel, headSize what
	// each batch of them takes besides its own.
	share, headSize int
	// decoded is where frames are decoded to, one after the other.
	decoded *columns
	stats   GateStats
	// pace is that at which the task, and what it waits for, takes batches in;
	// piece is the part of one that the operator has.
	pace  pace.Pace
	piece columns

	mu struct {
		sync.Mutex
		channels []channel
		// rows and credit bound each channel: Config.Rows and Config.Credit, or
		// what the task gets through in inFlight.
		rows, credit int
		ready        ring[int]
		// barriers counts those in all queues.
		barriers int
	}
}

func (t typed[T]) NewGate(n *Network, c GateConfig) (Gate, error) {
	stage, err := stageOf[T](n.into(c), c.To)
	if err != nil {
		return nil, err
	}
	return newGate(n, c, t, func(b *columns) error { return stage.Push(batchOf[T](b)) })
}

// into names what sends to an input, for messages.
func (n *Network) into(c GateConfig) string {
	edges := n.topology.Inputs(c.Vertex, c.To.Port)
	if len(edges) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("vertex %d", edges[0].From)
}

func newGate(n *Network, c GateConfig, k kind, to func(*columns) error) (*gate, error) {
	edges := n.topology.Inputs(c.Vertex, c.To.Port)
	if len(edges) == 0 {
		return nil, fmt.Errorf("input %d of %s: no edge leads there", c.To.Port, c.To.Name)
	}
	g := &gate{n: n, kind: k, to: to, name: c.To.Name, notify: c.Notify, press: c.Press, port: c.To.Port,
		subtask: c.Subtask, receivers: edges[0].Receivers, groups: edges[0].KeyGroups, decoded: k.make()}
	for _, e := range edges {
		for sender := range e.Senders {
			if !e.Reaches(sender, c.Subtask) {
				continue
			}
			g.mu.channels = append(g.mu.channels, channel{
				number: e.Channel(sender, c.Subtask), hashed: e.Ship == pb.Ship_SHIP_HASH,
				sender: sender, edge: e, room: make(chan struct{}, 1),
			})
		}
	}
	g.share, g.headSize = mostInFlight/max(1, n.topology.overtaken()), len(g.head(0))
	g.mu.rows, g.mu.credit = min(firstRows, n.config.Rows), n.config.Credit
	for i := range g.mu.channels {
		if err := n.addEnd(g.mu.channels[i].number, end{gate: g, channel: i}); err != nil {
			return nil, fmt.Errorf("input %d of %s: %w", c.To.Port, c.To.Name, err)
		}
	}
	return g, nil
}

func (g *gate) Channels() int { return len(g.mu.channels) }

func (g *gate) Port() int { return g.port }

func (g *gate) Stats() GateStats { return g.stats }

func (g *gate) Poll() (Item, error) {
	if len(g.resumed) > 0 {
		return g.resumeOne()
	}
	g.mu.Lock()
	i, ok := g.nextLocked()
	if !ok {
		g.mu.Unlock()
		return Item{}, nil
	}
	it := g.popLocked(i)
	if g.mu.channels[i].items.len() > 0 {
		g.queueLocked(i)
	}
	g.mu.Unlock()

	if it.kind != Data {
		g.release(i, &it, 0)
		return Item{Kind: it.kind, Channel: i, Time: it.time, Barrier: it.barrier}, nil
	}
	return g.push(i, &it)
}

// push hands a batch to the operator and recycles it. What a slow operator is
// not given at once comes first next time.
func (g *gate) push(i int, it *item) (Item, error) {
	c := &g.mu.channels[i]
	out := Item{Kind: Data, Channel: i}
	b := it.batch
	if it.frame != nil {
		b = g.decoded
		if err := decodeBatch(it.frame, b, c.hashed, g.decode); err != nil {
			return Item{}, fmt.Errorf("input of %s from %s: %w", g.name, g.n.senderName(c.edge, c.sender), err)
		}
		out.Bytes = frameHead + len(it.frame)
	}
	rows := b.len()
	if step := g.step(rows); step < rows {
		r := resumed{c.flags(), b, it.bytes + g.headSize}
		g.resumed = slices.Insert(g.resumed, 0, r)
		g.waiting += r.bytes
		if it.frame != nil {
			g.decoded = g.make()
		} else {
			it.batch = nil
		}
		piece, err := g.resumeOne()
		if err != nil {
			return Item{}, err
		}
		out.Rows = piece.Rows
		g.stats.Bytes += uint64(out.Bytes)
		g.release(i, it, rows)
		return out, nil
	}
	out.Rows = rows
	g.stats.Bytes += uint64(out.Bytes)
	if err := g.take(b); err != nil {
		return Item{}, err
	}
	b.empty(g)
	g.release(i, it, rows)
	return out, nil
}

// resumeOne gives the operator the next piece of what comes before all queues.
func (g *gate) resumeOne() (Item, error) {
	b := g.resumed[0].batch
	n := g.step(b.len())
	g.piece = b.cut(n, g)
	if b.len() == 0 {
		g.waiting -= g.resumed[0].bytes
		g.resumed = slices.Delete(g.resumed, 0, 1)
	}
	err := g.take(&g.piece)
	g.piece = columns{}
	return Item{Kind: Data, Rows: n}, err
}

// step is how many of the next rows the operator is given at once: so many as
// it deals with in inFlight. Between two steps the task takes barriers.
func (g *gate) step(rows int) int {
	if g.pace.Known() {
		return g.pace.Within(inFlight, rows)
	}
	return min(rows, pace.First)
}

func (g *gate) take(b *columns) error {
	rows := b.len()
	g.stats.Batches++
	g.stats.Rows += uint64(rows)
	began := time.Now()
	if err := g.to(b); err != nil {
		return err
	}
	g.pace.Took(rows, time.Since(began))
	return nil
}

func (g *gate) Block(i int) {
	g.mu.Lock()
	g.mu.channels[i].blocked = true
	g.mu.Unlock()
}

func (g *gate) Unblock() {
	g.mu.Lock()
	for i := range g.mu.channels {
		c := &g.mu.channels[i]
		if c.blocked {
			c.blocked, c.ahead = false, 0
		}
		if c.items.len() > 0 {
			g.queueLocked(i)
		}
	}
	g.mu.Unlock()
}

// nextLocked returns the channel whose turn it is, no longer queued.
func (g *gate) nextLocked() (int, bool) {
	for g.mu.ready.len() > 0 {
		i := g.mu.ready.pop()
		c := &g.mu.channels[i]
		c.queued = false
		if c.items.len() > 0 && (!c.blocked || c.ahead > 0) {
			return i, true
		}
	}
	return 0, false
}

func (g *gate) popLocked(i int) item {
	c := &g.mu.channels[i]
	it := c.items.pop()
	if it.kind == Barrier {
		c.barriers--
		g.mu.barriers--
	}
	c.ahead = max(0, c.ahead-1)
	return it
}

// queueLocked gives a channel a turn and says whether it had none.
func (g *gate) queueLocked(i int) bool {
	c := &g.mu.channels[i]
	if c.queued || c.blocked && c.ahead == 0 {
		return false
	}
	c.queued = true
	g.mu.ready.push(i)
	return true
}

// putLocked adds an item and says whether the task is to be notified.
func (g *gate) putLocked(i int, it item) bool {
	c := &g.mu.channels[i]
	c.items.push(it)
	c.rows += it.rows
	c.bytes += it.bytes
	if it.kind == Barrier {
		c.barriers++
		g.mu.barriers++
		if g.press != nil {
			g.press()
		}
	}
	return g.queueLocked(i)
}

// release gives back what an item, a batch of so many rows, took of its
// channel's bound.
func (g *gate) release(i int, it *item, rows int) {
	var wake bool
	var owed int
	g.mu.Lock()
	c := &g.mu.channels[i]
	c.rows -= it.rows
	c.bytes -= it.bytes
	if rows > 0 {
		g.boundLocked(it, rows)
	}
	if c.from != nil {
		c.owed += it.bytes
		// What the bound is below the credit that the channel began with stays
		// owed, until the bound rises.
		if back := c.owed - (g.n.config.Credit - g.mu.credit); back >= g.mu.credit/4 {
			owed, c.owed = back, c.owed-back
		}
	} else {
		if it.batch != nil {
			c.free = append(c.free, it.batch)
		}
		// Half empty, not one batch less than full: a sender that is woken
		// for each batch costs two switches a batch.
		if c.waiting && c.rows <= g.mu.rows/2 && c.bytes <= g.n.config.Bytes/2 && c.items.len() <= maxQueued/2 {
			c.waiting, wake = false, true
		}
	}
	from, room, number, bound := c.from, c.room, c.number, g.mu.credit
	g.mu.Unlock()

	if wake {
		signal(room)
	}
	if it.frame != nil {
		from.recycle(it.frame)
	}
	if owed > 0 {
		from.credit(number, owed, bound)
	}
}

// firstRows is how many rows a local channel may hold before the gate knows its
// pace: what has come by then may not be overtaken on every edge.
const firstRows = batchesPerBound * pace.First

// inFlight is how long a task may take for what waits in all channels of a gate:
// so long a barrier waits behind it.
const inFlight = 50 * time.Millisecond

// boundLocked adapts the channels' bounds to the pace.
func (g *gate) boundLocked(it *item, rows int) {
	share := inFlight / time.Duration(len(g.mu.channels))
	can := g.pace.Within(share, g.n.config.Credit)
	g.mu.rows = min(can, g.n.config.Rows)
	if it.frame != nil {
		g.mu.credit = min(max(can*it.bytes/rows, leastCost), g.n.config.Credit)
	}
}

// bind sets the connection that a remote channel comes over.
func (g *gate) bind(i int, from *inbound) {
	g.mu.Lock()
	g.mu.channels[i].from = from
	g.mu.Unlock()
}

// sender names a channel's sending subtask.
func (g *gate) sender(i int) int { return g.mu.channels[i].sender }

// frame takes in the body of a batch frame, which it keeps and later recycles;
// event takes in any other. Neither blocks. An error is a sender that does not
// keep to the protocol.
func (g *gate) frame(i int, body []byte, cost int) error {
	return g.remote(i, item{kind: Data, frame: body, bytes: cost})
}

func (g *gate) event(i int, kind Kind, time int64, b barrier.Barrier, cost int) error {
	return g.remote(i, item{kind: kind, time: time, barrier: b, bytes: cost})
}

func (g *gate) remote(i int, it item) error {
	g.mu.Lock()
	c := &g.mu.channels[i]
	if c.bytes+c.owed < g.n.config.Credit {
		c.overdrafts = 0
	} else if c.overdrafts++; c.overdrafts > maxOverdrafts {
		g.mu.Unlock()
		return fmt.Errorf("%w: %d frames on channel %d without credit", errCorrupt, c.overdrafts, c.number)
	}
	notify := g.putLocked(i, it)
	g.mu.Unlock()
	if notify {
		signal(g.notify)
	}
	return nil
}

// offer is how a local sender hands over a batch: it gets an empty one back,
// or nil when there is no room, of which it will be told; and how many rows
// the channel may hold.
func (g *gate) offer(i int, b *columns, bytes int, overdraw bool) (next *columns, rows int) {
	g.mu.Lock()
	c := &g.mu.channels[i]
	if !overdraw && g.fullLocked(c) {
		c.waiting = true
		g.mu.Unlock()
		return nil, 0
	}
	rows = g.mu.rows
	if c.absorb(b, bytes, rows, g) {
		g.mu.Unlock()
		b.empty(g)
		return b, rows
	}
	next = c.take(g)
	notify := g.putLocked(i, item{kind: Data, batch: b, rows: b.len(), bytes: bytes})
	g.mu.Unlock()
	if notify {
		signal(g.notify)
	}
	return next, rows
}

// offerEvent is how a local sender hands over an event; false means no room.
func (g *gate) offerEvent(i int, kind Kind, time int64, b barrier.Barrier, overdraw bool) bool {
	g.mu.Lock()
	c := &g.mu.channels[i]
	if kind == Watermark && c.grows() && c.items.last().kind == Watermark {
		c.items.last().time = time
		g.mu.Unlock()
		return true
	}
	if !overdraw && g.fullLocked(c) {
		c.waiting = true
		g.mu.Unlock()
		return false
	}
	notify := g.putLocked(i, item{kind: kind, time: time, barrier: b})
	g.mu.Unlock()
	if notify {
		signal(g.notify)
	}
	return true
}

func (g *gate) fullLocked(c *channel) bool {
	return c.rows >= g.mu.rows || c.bytes >= g.n.config.Bytes || c.items.len() >= maxQueued
}

// signal wakes whoever waits on a channel of capacity 1, now or later.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
