package catalog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

func splitting(name string, shard uint32, at stream.HashKey) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Split{Split: &pb.SplitShard{Name: name, Shard: shard, StartingHash: at[:]}}}
}

func merging(name string, shard, adjacent uint32) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Merge{Merge: &pb.MergeShards{Name: name, Shard: shard, Adjacent: adjacent}}}
}

func scaling(name string, shards uint32) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Scale{Scale: &pb.ScaleStream{Name: name, Shards: shards}}}
}

// settleAll does what live hosts do until nothing changes.
func settleAll(cat *pb.Catalog) *pb.Catalog {
	for next := cat; next != nil; {
		cat, next = next, nil
		applied := map[string]uint64{}
		for _, h := range cat.GetHosts() {
			if h.GetAddress() == "" {
				continue
			}
			applied[h.GetId()] = cat.GetVersion()
			if sealed := Sealed(cat, h.GetId(), sealsOf(cat, h.GetId(), 5), t0); sealed != nil {
				next = sealed
			}
		}
		if next == nil {
			next = Settle(cat, applied)
		}
	}
	return cat
}

// sealsOf is what a host reports, with a tip for every shard.
func sealsOf(cat *pb.Catalog, host string, tip uint64) []*pb.SealedShard {
	var out []*pb.SealedShard
	for _, s := range cat.GetStreams() {
		for _, sh := range s.GetShards() {
			if sh.GetOwner() == host && sh.GetChange() == pb.Shard_CHANGE_SEALING {
				end := stream.NewSequence(s.GetGeneration(), sh.GetIndex(), tip)
				out = append(out, &pb.SealedShard{Generation: s.GetGeneration(), Shard: sh.GetIndex(), OwnerEpoch: sh.GetOwnerEpoch(), EndingSequence: end[:]})
			}
		}
	}
	return out
}

func openShards(t *testing.T, cat *pb.Catalog, name string) (*pb.Stream, []*pb.Shard) {
	t.Helper()
	s, err := Find(cat, name)
	if err != nil {
		t.Fatal(err)
	}
	_, open, err := stream.RouteOf(s)
	if err != nil {
		t.Fatal(err)
	}
	return s, open
}

func TestLifeOfASplitAndAMerge(t *testing.T) {
	cat := settleAll(must(t, withHosts("a", "b"), creation("s", 1)))
	at := stream.HashKey{0x40}
	cat = must(t, cat, splitting("s", 0, at))
	s, open := openShards(t, cat, "s")
	if s.GetStatus() != pb.Stream_STATUS_UPDATING || len(open) != 1 || len(s.GetShards()) != 3 {
		t.Fatalf("after the split was decided: %v", s)
	}
	if _, err := Decide(cat, splitting("s", 0, at), t0); stream.KindOf(err) != stream.InUse {
		t.Errorf("two changes at once: %v", err)
	}
	v := map[string]uint64{"a": cat.GetVersion(), "b": cat.GetVersion()}
	if Settle(cat, v) != nil {
		t.Error("children opened before their parent was sealed")
	}
	seals := sealsOf(cat, "a", 7)
	if Sealed(cat, "b", seals, t0) != nil {
		t.Error("a host sealed another's shard")
	}
	seals[0].OwnerEpoch++
	if Sealed(cat, "a", seals, t0) != nil {
		t.Error("a shard was sealed with another epoch than its owner's")
	}
	seals[0].OwnerEpoch--
	cat = Sealed(cat, "a", seals, t0.Add(time.Minute))
	if Sealed(cat, "a", seals, t0) != nil {
		t.Error("a shard was sealed twice")
	}
	if Settle(cat, map[string]uint64{"a": v["a"]}) != nil {
		t.Error("children opened before their hosts had them")
	}
	cat = Settle(cat, v)
	s, open = openShards(t, cat, "s")
	parent := s.GetShards()[0]
	if s.GetStatus() != pb.Stream_STATUS_ACTIVE || len(open) != 2 || !parent.GetClosed() {
		t.Fatalf("after the split: %v", s)
	}
	if end, _ := stream.SequenceFromBytes(parent.GetEndingSequence()); end.Place() != 7 {
		t.Errorf("the parent ends at %v", end)
	}
	for i, want := range []stream.HashRange{{Last: at.Previous()}, {First: at, Last: stream.MaxHashKey}} {
		r, _ := stream.RangeOf(open[i])
		if r != want || open[i].GetParent() != 1 || open[i].GetCreatedMs() != parent.GetClosedMs() {
			t.Errorf("child %d is %v of parent %d, want %v", i, r, open[i].GetParent(), want)
		}
	}
	cat = settleAll(must(t, cat, merging("s", 2, 1)))
	s, open = openShards(t, cat, "s")
	if len(open) != 1 || open[0].GetIndex() != 3 || open[0].GetParent() != 3 || open[0].GetAdjacentParent() != 2 {
		t.Errorf("after the merge: %v", s)
	}
	for name, c := range map[string]struct {
		cmd  *pb.StreamCommand
		kind stream.Kind
	}{
		"closed":           {splitting("s", 0, at), stream.Closed},
		"unknown":          {splitting("s", 9, at), stream.ShardNotFound},
		"at its beginning": {splitting("s", 3, stream.HashKey{}), stream.InvalidArgument},
		"with itself":      {merging("s", 3, 3), stream.InvalidArgument},
		"with its parent":  {merging("s", 3, 1), stream.Closed},
		"too many":         {scaling("s", 3), stream.InvalidArgument},
		"no change":        {scaling("s", 1), stream.InvalidArgument},
	} {
		if _, err := Decide(cat, c.cmd, t0); err == nil || stream.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want kind %q", name, err, c.kind)
		}
	}
	if _, err := Decide(SetHost(cat, open[0].GetOwner(), ""), splitting("s", 3, at), t0); stream.KindOf(err) != stream.Unavailable {
		t.Errorf("split of a shard whose host is away: %v", err)
	}
}

// Parents are sealed one after the other. At every time the shards that were open
// then must cover all hash keys, for a reader that begins there.
func TestShardsOfOneChangeCloseAndOpenAtOnce(t *testing.T) {
	cat := settleAll(must(t, withHosts("a", "b"), creation("s", 2)))
	cat = must(t, cat, scaling("s", 4))
	for i, host := range []string{"a", "b"} {
		if cat = Sealed(cat, host, sealsOf(cat, host, 5), t0.Add(time.Duration(i+1)*time.Minute)); cat == nil {
			t.Fatalf("host %s has nothing to seal", host)
		}
	}
	s, open := openShards(t, settleAll(cat), "s")
	at := t0.Add(2 * time.Minute).UnixMilli()
	for _, sh := range s.GetShards()[:2] {
		if !sh.GetClosed() || sh.GetClosedMs() != at {
			t.Errorf("shard %d was closed at %d, its children are open since %d", sh.GetIndex(), sh.GetClosedMs(), at)
		}
	}
	for _, sh := range open {
		if sh.GetCreatedMs() != at {
			t.Errorf("shard %d is open since %d, want %d", sh.GetIndex(), sh.GetCreatedMs(), at)
		}
	}
}

func TestMergeRefusesShardsThatDoNotMeet(t *testing.T) {
	cat := settleAll(must(t, withHosts("a"), creation("s", 3)))
	for _, p := range [][2]uint32{{0, 2}, {2, 0}} {
		if _, err := Decide(cat, merging("s", p[0], p[1]), t0); stream.KindOf(err) != stream.InvalidArgument || err == nil {
			t.Errorf("merge of %v: %v", p, err)
		}
	}
	if _, err := Decide(cat, merging("s", 1, 0), t0); err != nil {
		t.Error(err)
	}
}

func TestScale(t *testing.T) {
	cat := settleAll(must(t, withHosts("a", "b"), creation("s", 2)))
	for _, n := range []uint32{4, 7, 4, 2, 3, 2, 1, 2} {
		cat = settleAll(must(t, cat, scaling("s", n)))
		s, open := openShards(t, cat, "s")
		if len(open) != int(n) || s.GetStatus() != pb.Stream_STATUS_ACTIVE {
			t.Fatalf("scaled to %d: %v", n, s)
		}
	}
}

// In every history of splits, merges, hosts that go and come, and reports that
// are late, twice or of old epochs, the invariants of this chapter hold, and once
// all is well the stream settles.
func TestReshardSeeds(t *testing.T) {
	seeds := 10_000
	if testing.Short() {
		seeds = 1000
	}
	base := uint64(time.Now().UnixNano())
	t.Logf("seed %d", base)
	for i := range uint64(seeds) {
		if err := reshardSeed(base, i); err != nil {
			t.Fatalf("seed %d/%d: %v", base, i, err)
		}
	}
}

func reshardSeed(base, n uint64) error {
	rng := rand.New(rand.NewPCG(base, n))
	cat := withHosts("a", "b", "c")
	cat, err := Decide(cat, creation("s", 1+rng.Uint32N(3)), t0)
	if err != nil {
		return err
	}
	applied := map[string]uint64{}
	var late []*pb.SealedShard
	seen := map[uint32]*pb.Shard{}
	now := t0
	for step := range 24 {
		now = now.Add(time.Second)
		before := proto.CloneOf(cat)
		host := string(rune('a' + rng.IntN(3)))
		var next *pb.Catalog
		switch s := cat.GetStreams()[0]; rng.IntN(9) {
		case 0:
			next, _ = Decide(cat, splitting("s", rng.Uint32N(uint32(len(s.GetShards()))), stream.HashOf(fmt.Sprint(rng.Uint64()))), now)
		case 1:
			a := rng.Uint32N(uint32(len(s.GetShards())))
			next, _ = Decide(cat, merging("s", a, rng.Uint32N(uint32(len(s.GetShards())))), now)
		case 2:
			next, _ = Decide(cat, scaling("s", 1+rng.Uint32N(8)), now)
		case 3:
			if next = SetHost(cat, host, []string{"", host + ":1", host + ":1"}[rng.IntN(3)]); next != nil {
				delete(applied, host)
			}
		case 4:
			applied[host] = cat.GetVersion()
		case 5:
			late = append(late, sealsOf(cat, host, rng.Uint64N(50))...)
		case 6:
			for _, said := range late {
				said.OwnerEpoch += rng.Uint64N(2) * rng.Uint64N(2)
			}
			next = Sealed(cat, host, late, now)
		case 7:
			next = Sealed(cat, host, sealsOf(cat, host, rng.Uint64N(50)), now)
		default:
			next = Settle(cat, applied)
		}
		if !proto.Equal(before, cat) {
			return fmt.Errorf("step %d changed its argument", step)
		}
		if next == nil {
			continue
		}
		if err := checkReshard(cat, next, seen); err != nil {
			return fmt.Errorf("step %d: %w\n%v", step, err, next)
		}
		cat = next
	}
	for _, h := range []string{"a", "b", "c"} {
		if next := SetHost(cat, h, h+":1"); next != nil {
			cat = next
		}
	}
	if s := settleAll(cat).GetStreams()[0]; s.GetStatus() != pb.Stream_STATUS_ACTIVE {
		return fmt.Errorf("all hosts are up, and the stream is %v: %v", s.GetStatus(), s)
	}
	return nil
}

// checkReshard holds one step against the invariants; seen are shards by index.
func checkReshard(before, after *pb.Catalog, seen map[uint32]*pb.Shard) error {
	s := after.GetStreams()[0]
	if _, _, err := stream.RouteOf(s); err != nil {
		return err // invariant 1
	}
	changing := false
	byIndex := map[uint32]*pb.Shard{}
	for _, sh := range s.GetShards() {
		if byIndex[sh.GetIndex()] != nil {
			return fmt.Errorf("two shards have index %d", sh.GetIndex())
		}
		byIndex[sh.GetIndex()] = sh
		changing = changing || sh.GetChange() != pb.Shard_CHANGE_UNSPECIFIED
		ended := sh.GetClosed() || sh.GetChange() == pb.Shard_CHANGE_SEALED
		if ended != (len(sh.GetEndingSequence()) > 0) {
			return fmt.Errorf("shard %d ends at %x, closed %v, %v", sh.GetIndex(), sh.GetEndingSequence(), sh.GetClosed(), sh.GetChange())
		}
		was := seen[sh.GetIndex()]
		if was == nil {
			continue
		}
		if !bytes.Equal(was.GetHashFirst(), sh.GetHashFirst()) || was.GetParent() != sh.GetParent() {
			return fmt.Errorf("shard %d is another one now", sh.GetIndex())
		}
		if len(was.GetEndingSequence()) > 0 && !bytes.Equal(was.GetEndingSequence(), sh.GetEndingSequence()) {
			return fmt.Errorf("the end of shard %d has moved", sh.GetIndex())
		}
		holds := s.GetStatus() != pb.Stream_STATUS_CREATING && was.GetChange() != pb.Shard_CHANGE_OPENING && before.GetStreams()[0].GetStatus() != pb.Stream_STATUS_CREATING
		if holds && was.GetOwner() != sh.GetOwner() {
			return fmt.Errorf("shard %d, which may hold records, went from %s to %s", sh.GetIndex(), was.GetOwner(), sh.GetOwner())
		}
	}
	if changing != (s.GetStatus() == pb.Stream_STATUS_UPDATING) {
		return fmt.Errorf("status %v while changing is %v", s.GetStatus(), changing)
	}
	for _, sh := range s.GetShards() {
		for _, p := range []uint32{sh.GetParent(), sh.GetAdjacentParent()} {
			if p > 0 && sh.GetChange() != pb.Shard_CHANGE_OPENING && !byIndex[p-1].GetClosed() {
				return fmt.Errorf("shard %d is open before its parent %d is closed", sh.GetIndex(), p-1)
			}
		}
	}
	for i, sh := range byIndex {
		seen[i] = sh
	}
	return nil
}
