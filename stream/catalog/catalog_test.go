package catalog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

var t0 = time.Unix(1_795_000_000, 0)

func creation(name string, shards uint32) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{Name: name, Shards: shards}}}
}

func deletion(name string) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Delete{Delete: &pb.DeleteStream{Name: name}}}
}

func retain(name string, hours uint32, increase bool) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_SetRetention{SetRetention: &pb.SetRetention{Name: name, Hours: hours, Increase: increase}}}
}

func must(t *testing.T, cat *pb.Catalog, cmd *pb.StreamCommand) *pb.Catalog {
	t.Helper()
	next, err := Decide(cat, cmd, t0)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func withHosts(hosts ...string) *pb.Catalog {
	var cat *pb.Catalog
	for _, h := range hosts {
		cat = SetHost(cat, h, h+":1")
	}
	return cat
}

func owners(t *testing.T, cat *pb.Catalog, name string) string {
	t.Helper()
	s, err := Find(cat, name)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, sh := range s.GetShards() {
		out = append(out, fmt.Sprintf("%s@%d", sh.GetOwner(), sh.GetOwnerEpoch()))
	}
	return strings.Join(out, " ")
}

func TestLifeOfAStream(t *testing.T) {
	cat := must(t, withHosts("a", "b"), creation("s", 4))
	if got := owners(t, cat, "s"); got != "a@1 b@1 a@1 b@1" {
		t.Errorf("placed on %s", got)
	}
	if Settle(cat, map[string]uint64{"a": cat.GetVersion()}) != nil {
		t.Error("settled before all owners had applied it")
	}
	created := cat.GetVersion()
	cat = Settle(cat, map[string]uint64{"a": created, "b": created})
	if s, _ := Find(cat, "s"); s.GetStatus() != pb.Stream_STATUS_ACTIVE {
		t.Fatalf("status %v, want ACTIVE", s.GetStatus())
	}
	generation := cat.GetLastGeneration()
	cat = must(t, cat, deletion("s"))
	if _, err := Decide(cat, creation("s", 1), t0); stream.KindOf(err) != stream.InUse {
		t.Errorf("created while being deleted: %v", err)
	}
	// A host that is away does not hold up the deletion.
	cat = SetHost(cat, "b", "")
	cat = Settle(cat, map[string]uint64{"a": cat.GetVersion()})
	if _, err := Find(cat, "s"); stream.KindOf(err) != stream.NotFound {
		t.Errorf("after its deletion: %v", err)
	}
	cat = must(t, cat, creation("s", 1))
	if s, _ := Find(cat, "s"); s.GetGeneration() <= generation {
		t.Errorf("the new stream has generation %d, the old one had %d", s.GetGeneration(), generation)
	}
}

func TestShardsStayWithAHostThatIsAwayOnceTheyHoldRecords(t *testing.T) {
	cat := must(t, withHosts("a", "b"), creation("s", 2))
	creating := SetHost(cat, "b", "")
	if got := owners(t, Settle(creating, nil), "s"); got != "a@1 a@2" {
		t.Errorf("a stream that is created without its host is on %s", got)
	}
	v := cat.GetVersion()
	active := SetHost(Settle(cat, map[string]uint64{"a": v, "b": v}), "b", "")
	if Settle(active, map[string]uint64{"a": active.GetVersion()}) != nil {
		t.Error("an active stream was changed because a host is away")
	}
	if got := owners(t, active, "s"); got != "a@1 b@1" {
		t.Errorf("an active stream moved to %s", got)
	}
}

func TestRefusals(t *testing.T) {
	cat := must(t, withHosts("a"), creation("s", 1))
	cat = Settle(cat, map[string]uint64{"a": cat.GetVersion()})
	many := make(map[string]string)
	for i := range stream.MaxTags + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, c := range map[string]struct {
		cmd  *pb.StreamCommand
		kind stream.Kind
	}{
		"taken":         {creation("s", 1), stream.Exists},
		"no name":       {creation("", 1), stream.InvalidArgument},
		"long name":     {creation(strings.Repeat("x", 129), 1), stream.InvalidArgument},
		"bad name":      {creation("a b", 1), stream.InvalidArgument},
		"no shards":     {creation("x", 0), stream.InvalidArgument},
		"unknown":       {deletion("x"), stream.NotFound},
		"too short":     {retain("s", 23, false), stream.InvalidArgument},
		"too long":      {retain("s", 8761, true), stream.InvalidArgument},
		"not less":      {retain("s", 25, false), stream.InvalidArgument},
		"too many tags": {&pb.StreamCommand{Body: &pb.StreamCommand_Tag{Tag: &pb.TagStream{Name: "s", Tags: many}}}, stream.InvalidArgument},
		"nothing":       {&pb.StreamCommand{}, stream.InvalidArgument},
	} {
		if _, err := Decide(cat, c.cmd, t0); stream.KindOf(err) != c.kind || err == nil {
			t.Errorf("%s: %v, want kind %q", name, err, c.kind)
		}
	}
	if _, err := Decide(nil, creation("s", 1), t0); stream.KindOf(err) != stream.NoHosts {
		t.Errorf("created without hosts: %v", err)
	}
	if _, err := Decide(must(t, cat, deletion("s")), retain("s", 48, true), t0); stream.KindOf(err) != stream.InUse {
		t.Errorf("retention of a stream that is being deleted: %v", err)
	}
}

// Whatever happens in whatever order: arguments are not changed, versions
// rise, generations are unique, and open shards cover the space.
func TestRandomHistories(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	seen := make(map[uint64]string)
	cat := withHosts("a")
	applied := map[string]uint64{}
	for step := range 3000 {
		before := proto.CloneOf(cat)
		name := fmt.Sprint("s", rng.IntN(5))
		host := string(rune('a' + rng.IntN(3)))
		var next *pb.Catalog
		switch rng.IntN(5) {
		case 0:
			next, _ = Decide(cat, creation(name, 1+rng.Uint32N(9)), t0.Add(time.Duration(step)*time.Millisecond))
		case 1:
			next, _ = Decide(cat, deletion(name), t0)
		case 2:
			next = SetHost(cat, host, []string{"", host + ":1"}[rng.IntN(2)])
		case 3:
			applied[host] = cat.GetVersion()
		default:
			next = Settle(cat, applied)
		}
		if !proto.Equal(before, cat) {
			t.Fatalf("step %d changed its argument", step)
		}
		if next == nil {
			continue
		}
		if next.GetVersion() != cat.GetVersion()+1 {
			t.Fatalf("step %d: version %d after %d", step, next.GetVersion(), cat.GetVersion())
		}
		for _, s := range next.GetStreams() {
			if was := seen[s.GetGeneration()]; was != "" && was != s.GetName() || s.GetGeneration() > next.GetLastGeneration() {
				t.Fatalf("step %d: generation %d of %s was that of %s", step, s.GetGeneration(), s.GetName(), was)
			}
			seen[s.GetGeneration()] = s.GetName()
			if _, _, err := stream.RouteOf(s); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
		}
		cat = next
	}
}
