package operator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Broadcast is a map that every subtask of an operator has a copy of, changed only
// by the records of a broadcast edge. As barriers do not overtake those, all copies
// are equal at a barrier, if what changes them is the same in whatever order
// several senders' records come: subtask 0 alone puts its copy into the checkpoint,
// and after a restore all have it.
//
// It is for the goroutine of the task, but for the encoding of a snapshot, which
// shares entries: the first change after a barrier copies them.
type Broadcast[MK comparable, MV any] struct {
	name   string
	keys   codec.Codec[MK]
	values codec.Codec[MV]
	// index finds a key in entries, which lie in the order in which they first
	// came. Deleted ones are gaps until there are too many.
	index   map[MK]int
	entries []broadcastEntry[MK, MV]
	shared  bool
	walks   int // that go on
}

type broadcastEntry[MK comparable, MV any] struct {
	key   MK
	value MV
	live  bool
}

// NewBroadcast returns an empty map. It refuses types that have no codec, or
// cannot be keys.
func NewBroadcast[MK comparable, MV any](name string) (*Broadcast[MK, MV], error) {
	b := &Broadcast[MK, MV]{name: name, index: map[MK]int{}}
	var err error
	if _, err = keygroup.HasherOf[MK](); err != nil {
		return nil, err
	}
	if b.keys, err = codec.Derive[MK](); err != nil {
		return nil, err
	}
	b.values, err = codec.Derive[MV]()
	return b, err
}

// Get returns the value of a key and whether there is one.
func (b *Broadcast[MK, MV]) Get(k MK) (v MV, ok bool) {
	i, ok := b.index[k]
	if ok {
		v = b.entries[i].value
	}
	return v, ok
}

// Len is the number of entries.
func (b *Broadcast[MK, MV]) Len() int { return len(b.index) }

// All yields the entries in the order in which their keys first came. Entries may be
// deleted meanwhile, and those that are put come or do not.
func (b *Broadcast[MK, MV]) All() iter.Seq2[MK, MV] {
	return func(yield func(MK, MV) bool) {
		b.walks++
		defer func() { b.walks-- }()
		for i := 0; i < len(b.entries); i++ {
			if e := &b.entries[i]; e.live && !yield(e.key, e.value) {
				return
			}
		}
	}
}

// Put sets the value of a key.
func (b *Broadcast[MK, MV]) Put(k MK, v MV) {
	b.own()
	if i, ok := b.index[k]; ok {
		b.entries[i].value = v
		return
	}
	b.index[k] = len(b.entries)
	b.entries = append(b.entries, broadcastEntry[MK, MV]{k, v, true})
}

// Delete removes a key and says whether it was there.
func (b *Broadcast[MK, MV]) Delete(k MK) bool {
	i, ok := b.index[k]
	if !ok {
		return false
	}
	b.own()
	delete(b.index, k)
	b.entries[i] = broadcastEntry[MK, MV]{}
	return true
}

// own makes the entries this map's alone, and closes gaps when most are.
func (b *Broadcast[MK, MV]) own() {
	gaps := len(b.entries)-len(b.index) > len(b.index)+16 && b.walks == 0
	if !b.shared && !gaps {
		return
	}
	b.shared = false
	all := make([]broadcastEntry[MK, MV], 0, len(b.entries)+1)
	for _, e := range b.entries {
		if !gaps {
			all = append(all, e)
		} else if e.live {
			b.index[e.key] = len(all)
			all = append(all, e)
		}
	}
	b.entries = all
}

// Declaration describes the state for the job graph.
func (b *Broadcast[MK, MV]) Declaration() *pb.StateDecl {
	return &pb.StateDecl{Name: b.name, Kind: broadcastKind, KeySchema: b.keys.Schema(), ValueSchema: b.values.Schema()}
}

// broadcastKind is the kind of the operator entry (docs/formats/manifest.md).
const broadcastKind = "broadcast"

// snapshot returns what encodes the map as it is now.
func (b *Broadcast[MK, MV]) snapshot() func() ([]*Entry, error) {
	b.shared = true
	entries, n := b.entries, len(b.index)
	return func() ([]*Entry, error) {
		out := appendText(nil, b.keys.Schema())
		out = appendText(out, b.values.Schema())
		out = binary.AppendUvarint(out, uint64(n))
		for i := range entries {
			if e := &entries[i]; e.live {
				out = b.keys.Append(out, &e.key)
				out = b.values.Append(out, &e.value)
			}
		}
		return []*Entry{{Kind: broadcastKind, Key: b.name, Value: out}}, nil
	}
}

// restore takes the map of a checkpoint, whose types may be those of an earlier
// version of the job.
func (b *Broadcast[MK, MV]) restore(entries []*Entry) error {
	for _, e := range entries {
		if e.Kind != broadcastKind || e.Key != b.name {
			continue
		}
		if err := b.read(e.Value); err != nil {
			return fmt.Errorf("broadcast state %q: %w", b.name, err)
		}
	}
	return nil
}

var errBroadcast = errors.New("its entry in the checkpoint is cut off")

func (b *Broadcast[MK, MV]) read(src []byte) error {
	keySchema, src, ok := cutText(src)
	valueSchema, src, ok2 := cutText(src)
	n, size := binary.Uvarint(src)
	if !ok || !ok2 || size <= 0 {
		return errBroadcast
	}
	src = src[size:]
	readKey, err := codec.DecoderFor[MK](keySchema)
	if err != nil {
		return err
	}
	readValue, err := codec.DecoderFor[MV](valueSchema)
	if err != nil {
		return err
	}
	for range n {
		var k MK
		var v MV
		if src, err = readKey(src, &k); err != nil {
			return err
		}
		if src, err = readValue(src, &v); err != nil {
			return err
		}
		b.Put(k, v)
	}
	if len(src) > 0 {
		return fmt.Errorf("%d bytes are left of its entry in the checkpoint", len(src))
	}
	return nil
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func cutText(src []byte) (s string, rest []byte, ok bool) {
	n, size := binary.Uvarint(src)
	if size <= 0 || n > uint64(len(src)-size) {
		return "", nil, false
	}
	end := size + int(n)
	return string(src[size:end]), src[end:], true
}

// BroadcastState is a Broadcast of whatever types.
type BroadcastState interface {
	Declaration() *pb.StateDecl
	snapshot() func() ([]*Entry, error)
	restore(entries []*Entry) error
}

// broadcasts are those of an operator.
type broadcasts []BroadcastState

func (all broadcasts) snapshot(ctx *Context, s *Snapshot) {
	for _, b := range all {
		if ctx.Subtask == 0 {
			s.Deferred = append(s.Deferred, b.snapshot())
		}
	}
}

func (all broadcasts) restore(entries []*Entry) error {
	for _, b := range all {
		if err := b.restore(entries); err != nil {
			return err
		}
	}
	return nil
}

// NewBroadcastProcess is NewCoProcess whose right input is a broadcast edge. Each
// subtask calls open for its functions and for the states that the right one
// changes.
func NewBroadcastProcess[L, R, U any](
	open func(ctx *Context) (left func(*Call, L, func(U)) error, right func(*Call, R, func(U)) error, states []BroadcastState, end func() error, err error),
	declared ...Side,
) Operator {
	p := &broadcastProcess[L, R, U]{open: open}
	p.left.calls, p.right.calls = &p.calls, &p.calls
	p.init(declared)
	return p
}

type broadcastProcess[L, R, U any] struct {
	coProcess[L, R, U]
	open   func(*Context) (func(*Call, L, func(U)) error, func(*Call, R, func(U)) error, []BroadcastState, func() error, error)
	states broadcasts
	end    func() error
}

func (p *broadcastProcess[L, R, U]) Open(ctx *Context) (err error) {
	if err := p.coProcess.Open(ctx); err != nil {
		return err
	}
	ctx.Enter()
	p.left.each, p.right.each, p.states, p.end, err = p.open(ctx)
	return err
}

func (p *broadcastProcess[L, R, U]) Close() error {
	if p.end == nil {
		return nil
	}
	return p.end()
}

// Snapshot implements Snapshotter.
func (p *broadcastProcess[L, R, U]) Snapshot(s *Snapshot) error {
	p.states.snapshot(p.ctx, s)
	return nil
}

// Restore implements Restorer.
func (p *broadcastProcess[L, R, U]) Restore(entries []*Entry) error { return p.states.restore(entries) }

// NewKeyedBroadcastProcess is NewKeyedProcess with a broadcast edge beside the
// keyed one, at port 1. Its records have no key: Right must use no keyed state.
func NewKeyedBroadcastProcess[K comparable, L, R, U any](
	key func(L) K,
	open func(ctx *Context, cur *state.Current[K]) (KeyedCoFunction[K, L, R, U], []BroadcastState, error),
	declared ...Side,
) Operator {
	p := &keyedBroadcastProcess[K, L, R, U]{open: open}
	p.left = keyedPort[K, L, U]{calls: &p.keyedCalls, key: key}
	p.right.p = p
	p.init(declared)
	return p
}

type keyedBroadcastProcess[K comparable, L, R, U any] struct {
	keyedCalls[K, U]
	open   func(*Context, *state.Current[K]) (KeyedCoFunction[K, L, R, U], []BroadcastState, error)
	left   keyedPort[K, L, U]
	right  broadcastPort[K, L, R, U]
	states broadcasts
}

func (p *keyedBroadcastProcess[K, L, R, U]) Input(i int) any {
	return Either[L, R](i, &p.left, &p.right)
}

func (p *keyedBroadcastProcess[K, L, R, U]) Open(ctx *Context) error {
	p.begin(ctx)
	f, states, err := p.open(ctx, &p.cur)
	p.left.each, p.right.each, p.timers, p.states = f.Left, f.Right, f.KeyedTimers, states
	return err
}

// Snapshot implements Snapshotter.
func (p *keyedBroadcastProcess[K, L, R, U]) Snapshot(s *Snapshot) error {
	p.states.snapshot(p.ctx, s)
	return nil
}

// Restore implements Restorer.
func (p *keyedBroadcastProcess[K, L, R, U]) Restore(entries []*Entry) error {
	if err := p.states.restore(entries); err != nil {
		return err
	}
	return p.keyedCalls.Restore(entries)
}

// broadcastPort is the input without keys of a keyed operator.
type broadcastPort[K comparable, L, R, U any] struct {
	p    *keyedBroadcastProcess[K, L, R, U]
	each func(*Call, R, func(U)) error
}

// Push implements Stage.
func (in *broadcastPort[K, L, R, U]) Push(b *batch.Batch[R]) error {
	p := in.p
	p.ctx.Enter()
	p.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	for i := range b.Values {
		p.time, p.call.time = b.Times[i], b.Times[i]
		if err := in.each(&p.call, b.Values[i], p.to); err != nil {
			return err
		}
	}
	return p.finish()
}
