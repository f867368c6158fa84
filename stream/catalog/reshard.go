package catalog

import (
	"bytes"
	"math/big"
	"slices"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

// This chapter divides a stream anew. A change takes three versions of the
// catalog, of which each is journalled before anybody hears of it:
//
//	          Decide                 Sealed                  Settle
//	parent   open ─────▶ SEALING ───host has sealed──▶ SEALED ─────▶ closed
//	child         └────▶ OPENING ──────────────────────────────┴───▶ open
//
// Invariants:
//
//  1. The open shards and the parents that are not closed partition the hash
//     space at every version: a record always has one shard to go to.
//  2. A child opens when every parent's ending sequence number is in the
//     catalog, so in the journal. What a child holds came after all that its
//     parents acknowledged.
//  3. An ending sequence number is taken only from the owner with the epoch of
//     the shard, and never changes.
//  4. Indexes of a stream's shards are never used twice.
//  5. One change of a stream is under way at a time; while it is, the stream is
//     UPDATING. What a crash interrupts goes on when the hosts report again.

// family is one change: the parents that end and the ranges that follow.
type family struct {
	parents  []*pb.Shard
	children []stream.HashRange
}

func split(cat *pb.Catalog, c *pb.SplitShard, now time.Time) error {
	s, err := settled(cat, c.GetName())
	if err != nil {
		return err
	}
	parent, err := openShard(s, c.GetShard())
	if err != nil {
		return err
	}
	at, err := stream.HashKeyFromBytes(c.GetStartingHash())
	if err != nil {
		return err
	}
	r, err := stream.RangeOf(parent)
	if err != nil {
		return err
	}
	if at.Compare(r.First) <= 0 || at.Compare(r.Last) > 0 {
		return stream.Errorf(stream.InvalidArgument, "split of %s of stream %s at hash key %v: the upper half must begin above %v and not above %v",
			stream.ShardName(parent.GetIndex()), s.GetName(), at, r.First, r.Last)
	}
	return reshard(cat, s, []family{{[]*pb.Shard{parent}, []stream.HashRange{{First: r.First, Last: at.Previous()}, {First: at, Last: r.Last}}}}, now)
}

func merge(cat *pb.Catalog, c *pb.MergeShards, now time.Time) error {
	s, err := settled(cat, c.GetName())
	if err != nil {
		return err
	}
	a, err := openShard(s, c.GetShard())
	if err != nil {
		return err
	}
	b, err := openShard(s, c.GetAdjacent())
	if err != nil {
		return err
	}
	f, err := merged(s, a, b)
	if err != nil {
		return err
	}
	return reshard(cat, s, []family{f}, now)
}

func merged(s *pb.Stream, a, b *pb.Shard) (family, error) {
	ra, err := stream.RangeOf(a)
	if err != nil {
		return family{}, err
	}
	rb, err := stream.RangeOf(b)
	if err != nil {
		return family{}, err
	}
	low, high := ra, rb
	if rb.First.Compare(ra.First) < 0 {
		low, high = rb, ra
	}
	if a == b || high.First == (stream.HashKey{}) || high.First.Previous() != low.Last {
		return family{}, stream.Errorf(stream.InvalidArgument, "merge of %s and %s of stream %s: their hash ranges do not meet",
			stream.ShardName(a.GetIndex()), stream.ShardName(b.GetIndex()), s.GetName())
	}
	return family{[]*pb.Shard{a, b}, []stream.HashRange{{First: low.First, Last: high.Last}}}, nil
}

// scale splits or merges shards, each once, until there are as many as asked.
func scale(cat *pb.Catalog, c *pb.ScaleStream, now time.Time) error {
	s, err := settled(cat, c.GetName())
	if err != nil {
		return err
	}
	_, open, err := stream.RouteOf(s)
	if err != nil {
		return err
	}
	n, want := len(open), int(c.GetShards())
	if want < 1 || want > 2*n || 2*want < n || want > stream.MaxShards {
		return stream.Errorf(stream.InvalidArgument, "stream %s has %d open shards and cannot be scaled to %d: one step leads to between half and twice as many, at most %d",
			s.GetName(), n, want, stream.MaxShards)
	}
	var families []family
	switch {
	case want == n:
		return stream.Errorf(stream.InvalidArgument, "stream %s has %d open shards already", s.GetName(), n)
	case want > n:
		slices.SortStableFunc(open, func(a, b *pb.Shard) int { return width(b).Cmp(width(a)) })
		for _, parent := range open[:want-n] {
			r, err := stream.RangeOf(parent)
			if err != nil {
				return err
			}
			at, ok := middle(r)
			if !ok {
				return stream.Errorf(stream.InvalidArgument, "%s of stream %s holds one hash key and cannot be split", stream.ShardName(parent.GetIndex()), s.GetName())
			}
			families = append(families, family{[]*pb.Shard{parent}, []stream.HashRange{{First: r.First, Last: at.Previous()}, {First: at, Last: r.Last}}})
		}
	default:
		for _, i := range pairs(open, n-want) {
			f, err := merged(s, open[i], open[i+1])
			if err != nil {
				return err
			}
			families = append(families, f)
		}
	}
	return reshard(cat, s, families, now)
}

// pairs chooses neighbours to merge, by the place of the lower one: the
// narrowest where that leaves enough.
func pairs(open []*pb.Shard, n int) []int {
	order := make([]int, len(open)-1)
	for i := range order {
		order[i] = i
	}
	both := func(i int) *big.Int { return new(big.Int).Add(width(open[i]), width(open[i+1])) }
	slices.SortStableFunc(order, func(a, b int) int { return both(a).Cmp(both(b)) })
	taken := make([]bool, len(open))
	var chosen []int
	for _, i := range order {
		if len(chosen) < n && !taken[i] && !taken[i+1] {
			taken[i], taken[i+1] = true, true
			chosen = append(chosen, i)
		}
	}
	if len(chosen) < n {
		chosen = chosen[:0]
		for i := range n {
			chosen = append(chosen, 2*i)
		}
	}
	slices.Sort(chosen)
	return chosen
}

func width(sh *pb.Shard) *big.Int {
	return new(big.Int).Sub(new(big.Int).SetBytes(sh.GetHashLast()), new(big.Int).SetBytes(sh.GetHashFirst()))
}

// middle is where the upper half of a range begins.
func middle(r stream.HashRange) (stream.HashKey, bool) {
	first, last := new(big.Int).SetBytes(r.First[:]), new(big.Int).SetBytes(r.Last[:])
	var at stream.HashKey
	sum := first.Add(first, last)
	sum.Add(sum, big.NewInt(1)).Rsh(sum, 1).FillBytes(at[:])
	return at, at.Compare(r.First) > 0
}

// reshard begins a change of a stream.
func reshard(cat *pb.Catalog, s *pb.Stream, families []family, now time.Time) error {
	open := 0
	next := uint32(0)
	for _, sh := range s.GetShards() {
		next = max(next, sh.GetIndex()+1)
		if !sh.GetClosed() {
			open++
		}
	}
	for _, f := range families {
		for _, p := range f.parents {
			if !live(cat, p.GetOwner()) {
				return stream.Errorf(stream.Unavailable, "task manager %s, which hosts %s of stream %s, is away: it must seal the shard first",
					p.GetOwner(), stream.ShardName(p.GetIndex()), s.GetName())
			}
			p.Change = pb.Shard_CHANGE_SEALING
		}
		for _, r := range f.children {
			child := &pb.Shard{
				Index: next, HashFirst: r.First[:], HashLast: r.Last[:], CreatedMs: now.UnixMilli(),
				Parent: f.parents[0].GetIndex() + 1, Change: pb.Shard_CHANGE_OPENING,
			}
			if len(f.parents) > 1 {
				child.AdjacentParent = f.parents[1].GetIndex() + 1
			}
			s.Shards = append(s.Shards, child)
			next++
		}
		open += len(f.children) - len(f.parents)
	}
	if open > stream.MaxShards {
		return stream.Errorf(stream.LimitExceeded, "stream %s would have %d open shards: at most %d are allowed", s.GetName(), open, stream.MaxShards)
	}
	s.Status = pb.Stream_STATUS_UPDATING
	return place(cat, s)
}

// openShard finds a shard that takes records.
func openShard(s *pb.Stream, index uint32) (*pb.Shard, error) {
	for _, sh := range s.GetShards() {
		switch {
		case sh.GetIndex() != index:
		case sh.GetClosed():
			return nil, stream.Errorf(stream.Closed, "%s of stream %s is closed: it was split or merged before", stream.ShardName(index), s.GetName())
		default:
			return sh, nil
		}
	}
	return nil, stream.Errorf(stream.ShardNotFound, "stream %s has no %s", s.GetName(), stream.ShardName(index))
}

// Sealed takes down what a host says it has sealed. It returns nil where that
// is no news, or not the host's to say.
func Sealed(cat *pb.Catalog, host string, sealed []*pb.SealedShard, now time.Time) *pb.Catalog {
	var next *pb.Catalog
	for _, said := range sealed {
		i, j := find(cat, said)
		if i < 0 {
			continue
		}
		sh := cat.GetStreams()[i].GetShards()[j]
		end, err := stream.SequenceFromBytes(said.GetEndingSequence())
		if err != nil || end.Of(said.GetGeneration(), said.GetShard()) != nil || sh.GetChange() != pb.Shard_CHANGE_SEALING ||
			sh.GetOwner() != host || sh.GetOwnerEpoch() != said.GetOwnerEpoch() {
			continue
		}
		if next == nil {
			next = successor(cat)
		}
		sh = next.Streams[i].Shards[j]
		sh.Change, sh.EndingSequence, sh.ClosedMs = pb.Shard_CHANGE_SEALED, bytes.Clone(end[:]), now.UnixMilli()
	}
	return next
}

func find(cat *pb.Catalog, said *pb.SealedShard) (streamAt, shardAt int) {
	for i, s := range cat.GetStreams() {
		if s.GetGeneration() == said.GetGeneration() {
			j := slices.IndexFunc(s.GetShards(), func(sh *pb.Shard) bool { return sh.GetIndex() == said.GetShard() })
			if j < 0 {
				break
			}
			return i, j
		}
	}
	return -1, -1
}

// settleUpdate goes on with a change; it says whether it did anything.
func settleUpdate(cat *pb.Catalog, s *pb.Stream, applied map[string]uint64) bool {
	var closed int64
	for _, sh := range s.GetShards() {
		switch sh.GetChange() {
		case pb.Shard_CHANGE_SEALING:
			return replaceChildren(cat, s)
		case pb.Shard_CHANGE_SEALED:
			closed = max(closed, sh.GetClosedMs())
		case pb.Shard_CHANGE_OPENING:
			if !live(cat, sh.GetOwner()) {
				return replaceChildren(cat, s)
			}
			if applied[sh.GetOwner()] < s.GetChangedVersion() {
				return false
			}
		}
	}
	for _, sh := range s.GetShards() {
		switch sh.GetChange() {
		case pb.Shard_CHANGE_SEALED:
			// Whenever it was sealed: the shards that were open at any time
			// partition the hash space.
			sh.Closed, sh.ClosedMs = true, closed
		case pb.Shard_CHANGE_OPENING:
			sh.CreatedMs = closed
		}
		sh.Change = pb.Shard_CHANGE_UNSPECIFIED
	}
	s.Status, s.ChangedVersion = pb.Stream_STATUS_ACTIVE, cat.GetVersion()
	return true
}

// replaceChildren finds other hosts for children whose host went away: they
// hold nothing yet.
func replaceChildren(cat *pb.Catalog, s *pb.Stream) bool {
	away := slices.ContainsFunc(s.GetShards(), func(sh *pb.Shard) bool {
		return sh.GetChange() == pb.Shard_CHANGE_OPENING && !live(cat, sh.GetOwner())
	})
	return away && place(cat, s) == nil
}
