package job

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// lines are the splits t1, t2, … of the model: each but the last is finished, and
// the next one follows it.
type lines []*pb.Split

// end finishes the last one, now and then.
func (l lines) end(r *rand.Rand) {
	if n := len(l); n > 0 && !l[n-1].GetFinished() && r.IntN(3) == 0 {
		l[n-1].Finished, l[n-1].Followed = true, true
	}
}

func (l *lines) follow(c *pb.AssignSplits) {
	for _, a := range c.GetSplits() {
		for _, s := range a.GetSplits() {
			*l = append(*l, proto.CloneOf(s))
		}
		for _, s := range *l {
			s.Followed = s.GetFollowed() && !slices.Contains(a.GetReleased(), s.GetId())
		}
	}
}

func (l lines) entries() (out []*pb.OperatorEntry) {
	for _, s := range l {
		value, _ := proto.Marshal(s)
		out = append(out, &pb.OperatorEntry{Kind: checkpoint.EntrySplit, Key: s.GetId(), Value: value})
	}
	return out
}

// followers are the splits that follow finished ones and are not known.
func followers(known []*pb.Split) (out []*pb.Split) {
	last := -1
	for i, k := range known {
		if k.GetId() != "s0" && (last < 0 || number(k) > number(known[last])) {
			last = i
		}
	}
	if last >= 0 && known[last].GetFinished() {
		out = append(out, &pb.Split{Id: fmt.Sprint("t", number(known[last])+1), Parents: []string{known[last].GetId()}})
	}
	return out
}

func number(s *pb.Split) (n int) {
	_, _ = fmt.Sscanf(s.GetId(), "t%d", &n)
	return n
}

// linesOf is what a new attempt reads.
func linesOf(known []*pb.Split) (out []*pb.Split) {
	fresh := followers(known)
	for _, k := range known {
		k = proto.CloneOf(k)
		k.Followed = false
		out = append(out, k)
	}
	return append(out, fresh...)
}

// sawFollowers holds assignments against the invariants of followSplits: the
// newest checkpoint holds the ends of the parents, which are let go of.
func (v *invariants) sawFollowers(w *world, c *pb.AssignSplits) {
	known, err := splitsOf(w.bucket[w.record.GetLatest().GetManifest()], "src")
	if err != nil {
		w.fatalf("invariant 3 of followers: %v", err)
	}
	for _, a := range c.GetSplits() {
		for _, s := range a.GetSplits() {
			if v.assigned[s.GetId()] {
				w.fatalf("%s is assigned twice in an attempt", s.GetId())
			}
			v.assigned[s.GetId()] = true
			v.followed++
			for _, p := range s.GetParents() {
				if !slices.ContainsFunc(known, func(k *pb.Split) bool { return k.GetId() == p && k.GetFinished() }) {
					w.fatalf("invariant 1 of followers: %s is assigned, its parent %s has not finished in %v", s.GetId(), p, known)
				}
				if !slices.Contains(a.GetReleased(), p) {
					w.fatalf("%s is assigned and its parent %s goes on holding time", s.GetId(), p)
				}
			}
		}
	}
	if how := w.record.GetStopping().GetHow(); how != "" && w.m.stopping.record != nil {
		w.fatalf("splits are assigned to a job that is about to %s", how)
	}
}

// A split goes to the subtask of the parent furthest behind in event time; one
// whose parents are apart waits while records are in flight.
func TestWhereAFollowerGoes(t *testing.T) {
	assigned := func(subtask uint32, id string) *pb.SplitAssignment {
		return &pb.SplitAssignment{Uid: "src", Subtask: subtask, Splits: []*pb.Split{{Id: id}}}
	}
	m := &Master{}
	m.attempt.splits = map[string][]*pb.SplitAssignment{"src": {assigned(0, "a"), assigned(1, "b"), assigned(1, "c"), assigned(2, "d")}}
	known := []*pb.Split{
		{Id: "a", Finished: true, Watermark: 50}, {Id: "b", Finished: true, Watermark: 40},
		{Id: "c", Finished: true, Watermark: 60}, {Id: "d", Watermark: 10},
	}
	for _, c := range []struct {
		parents  []string
		inFlight bool
		want     uint32
		ok       bool
	}{
		{[]string{"a"}, true, 0, true},
		{[]string{"a", "b"}, false, 1, true},
		{[]string{"a", "b"}, true, 0, false},
		{[]string{"b", "c"}, true, 1, true},
		{[]string{"a", "d"}, false, 0, false},
		{[]string{"gone"}, false, 0, false},
		{nil, false, 0, false},
	} {
		got, held, ok := m.placeOf("src", &pb.Split{Id: "new", Parents: c.parents}, &following{known: known, inFlight: c.inFlight})
		if ok != c.ok || ok && (got != c.want || len(held) != len(c.parents)) {
			t.Errorf("parents %v, in flight %v: subtask %d, %v, %v; want %d, %v", c.parents, c.inFlight, got, held, ok, c.want, c.ok)
		}
	}
	if _, _, ok := m.placeOf("src", &pb.Split{Id: "c", Parents: []string{"a"}}, &following{known: known}); ok {
		t.Error("a split that is being read is assigned again")
	}
}

// A child of parents that different subtasks read, and that records in flight keep
// waiting, is noted once; whoever asks is told until it is assigned.
func TestAFollowerThatWaitsIsTold(t *testing.T) {
	m := &Master{phase: phaseRunning, roles: roles{sources: []string{"src"}, vertexOf: map[string]*pb.Vertex{"src": {Id: "v1", Parallelism: 2}}}}
	m.attempt.following, m.attempt.crossing = map[string]*following{}, map[string][]string{}
	m.attempt.splits = map[string][]*pb.SplitAssignment{"src": {
		{Uid: "src", Subtask: 0, Splits: []*pb.Split{{Id: "a"}}}, {Uid: "src", Subtask: 1, Splits: []*pb.Split{{Id: "b"}}},
	}}
	notes := func(inFlight bool) (n int) {
		m.out = nil
		m.attempt.following["src"] = &following{known: []*pb.Split{{Id: "a", Finished: true}, {Id: "b", Finished: true}}, inFlight: inFlight}
		m.followersFound(&pb.Enumerated{Uid: "src", Splits: []*pb.SplitAssignment{{Uid: "src", Splits: []*pb.Split{{Id: "c", Parents: []string{"a", "b"}}}}}})
		for _, a := range m.out {
			if o, ok := a.(Observe); ok && o.Observation.(Note).Args[3] == "c" {
				n++
			}
		}
		return n
	}
	const want = "waits for a checkpoint without records in flight to read c, whose parents are read by different subtasks: it comes once the job catches up"
	for i, first := range []int{1, 0, 0} {
		if n := notes(true); n != first || m.waiting() != want {
			t.Errorf("checkpoint %d: %d notes, want %d; the job %s", i+1, n, first, m.waiting())
		}
	}
	if n := notes(false); n != 0 || m.waiting() != "" {
		t.Errorf("assigned: %d notes; the job %q", n, m.waiting())
	}
	if at, ok := m.subtaskOf("src", "c"); !ok || at > 1 {
		t.Errorf("the child is read by %d, %v", at, ok)
	}
}
