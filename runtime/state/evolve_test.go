package state

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/checkpoint/upgrade"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// version is one version of a state called "s": how it is declared, filled and
// restored.
type version struct {
	name string
	// fill puts entries into a store, open only declares the state.
	fill, open func(*Store) error
	// entries are how many a full run of it has.
	entries int
}

// valueOf is a value state of a key and a value type.
func valueOf[K comparable, V any](key K, v V) version {
	of := func(put bool) func(*Store) error {
		return func(s *Store) error {
			hash, err := keygroup.HasherOf[K]()
			if err != nil {
				return err
			}
			var cur Current[K]
			h, err := NewValue[K, V](s, &cur, "s")
			if err == nil && put {
				cur.Set(hash(&key), key)
				h.Set(v)
			}
			return err
		}
	}
	return version{fmt.Sprintf("value %v %v", reflect.TypeFor[K](), reflect.TypeFor[V]()), of(true), of(false), 1}
}

func listOf[E any](e E) version {
	of := func(put bool) func(*Store) error {
		return func(s *Store) error {
			var cur Current[int64]
			h, err := NewList[int64, E](s, &cur, "s")
			if err == nil && put {
				cur.Set(hashOf(7), 7)
				h.Append(e, e)
			}
			return err
		}
	}
	return version{fmt.Sprintf("list %v", reflect.TypeFor[E]()), of(true), of(false), 3}
}

func mapOf[MK comparable, MV any](k MK, v MV) version {
	of := func(put bool) func(*Store) error {
		return func(s *Store) error {
			var cur Current[int64]
			h, err := NewMap[int64, MK, MV](s, &cur, "s")
			if err == nil && put {
				cur.Set(hashOf(7), 7)
				h.Put(k, v)
			}
			return err
		}
	}
	return version{fmt.Sprintf("map %v %v", reflect.TypeFor[MK](), reflect.TypeFor[MV]()), of(true), of(false), 2}
}

func spacesOf[V any](v V) version {
	of := func(put bool) func(*Store) error {
		return func(s *Store) error {
			p, err := NewSpaces[int64, V](s, "s")
			s.Describe("s", "window")
			if err == nil && put {
				at, _ := p.Space(60_000).Upsert(hashOf(7), 7)
				*at = v
			}
			return err
		}
	}
	return version{fmt.Sprintf("window %v", reflect.TypeFor[V]()), of(true), of(false), 1}
}

type (
	pair32  struct{ A, B int32 }
	pair64  struct{ A, B int64 }
	swapped struct{ B, A int32 }
	renamed struct {
		X int32 `millrace:",was=A"`
		B int32
	}
	onlyA   struct{ A int32 }
	withC   struct{ A, B, C int32 }
	texts   struct{ A, B string }
	tagged  struct{ First, B int32 }
	keptTag struct {
		First int32 `millrace:"A"`
		B     int32
	}
)

var versions = []version{
	valueOf(int64(7), int32(-1)), valueOf(int64(7), int64(-1)), valueOf(int64(7), uint16(1)), valueOf(int64(7), uint64(1)),
	valueOf(int64(7), float32(1)), valueOf(int64(7), 1.0), valueOf(int64(7), "text"), valueOf(int64(7), []byte("x")),
	valueOf(int64(7), []int32{1, 2}), valueOf(int64(7), []int64{1}), valueOf(int64(7), [2]int32{1, 2}), valueOf(int64(7), [3]int32{}),
	valueOf(int64(7), new(pair32)), valueOf(int64(7), map[string]pair32{"a": {1, 2}}), valueOf(int64(7), map[string]pair64{"a": {1, 2}}),
	valueOf(int64(7), pair32{1, 2}), valueOf(int64(7), pair64{1, 2}), valueOf(int64(7), swapped{1, 2}), valueOf(int64(7), renamed{1, 2}),
	valueOf(int64(7), onlyA{1}), valueOf(int64(7), withC{1, 2, 3}), valueOf(int64(7), texts{"a", "b"}), valueOf(int64(7), tagged{1, 2}),
	valueOf(int64(7), keptTag{1, 2}),
	valueOf(int32(7), int32(1)), valueOf(uint8(7), int32(1)), valueOf("k", int32(1)), valueOf(1.5, int32(1)), valueOf(float32(1.5), int32(1)),
	valueOf(pair32{1, 2}, int32(1)), valueOf(pair64{1, 2}, int32(1)), valueOf(swapped{1, 2}, int32(1)), valueOf(renamed{1, 2}, int32(1)),
	valueOf(onlyA{1}, int32(1)), valueOf(texts{"a", "b"}, int32(1)), valueOf([2]int8{1, 2}, int32(1)), valueOf([2]int32{1, 2}, int32(1)),
	listOf(int32(1)), listOf(int64(1)), listOf("text"), listOf(pair32{1, 2}), listOf(renamed{1, 2}),
	mapOf("k", int32(1)), mapOf("k", int64(1)), mapOf(int16(1), int32(1)), mapOf(int32(1), int32(1)), mapOf("k", pair32{1, 2}), mapOf("k", withC{1, 2, 3}),
	spacesOf(int32(1)), spacesOf(int64(1)), spacesOf(pair32{1, 2}), spacesOf(swapped{1, 2}),
}

// Whatever the check of an upgrade accepts a store restores, all of it, and
// whatever it refuses the store refuses: for every pair of versions.
func TestCheckAndRestoreAgree(t *testing.T) {
	accepted := 0
	for _, old := range versions {
		from := NewStore(small)
		if err := old.fill(from); err != nil {
			t.Fatal(old.name, err)
		}
		run := mustRun(t, from)
		for _, now := range versions {
			into := NewStore(small)
			if err := now.open(into); err != nil {
				t.Fatal(now.name, err)
			}
			report, err := upgrade.Compare(oldJob(from), graphOf(into.Declared()))
			if err != nil {
				t.Fatal(err)
			}
			checked := report.Check(false)
			r, err := snapshot.Open("run", run, 0, 15)
			if err != nil {
				t.Fatal(err)
			}
			restored := into.Load([]*snapshot.Reader{r}, Restore{Declared: from.Declared()})
			if (checked == nil) != (restored == nil) {
				t.Errorf("%s to %s: the check says %v, the restore %v", old.name, now.name, checked, restored)
			}
			if restored == nil {
				accepted++
				if got := into.Stats().Entries; got != old.entries {
					t.Errorf("%s to %s: %d entries were restored, want %d", old.name, now.name, got, old.entries)
				}
				// What was written has the form of before: it can be no base of
				// changes in another.
				f := into.Freeze(false)
				if same := sameForm(from.Declared(), into.Declared()); f.Full() == same && old.entries > 0 {
					t.Errorf("%s to %s: the next snapshot is full: %v", old.name, now.name, f.Full())
				}
				f.Abort()
			}
		}
	}
	if accepted <= len(versions) || accepted == len(versions)*len(versions) {
		t.Errorf("%d of %d pairs were accepted: the table tests nothing", accepted, len(versions)*len(versions))
	}
}

// sameForm says whether entries have the same bytes.
func sameForm(old, now []*pb.StateDecl) bool {
	for i, d := range old {
		if d.GetKeySchema() != now[i].GetKeySchema() || d.GetValueSchema() != now[i].GetValueSchema() {
			return false
		}
	}
	return true
}

func graphOf(states []*pb.StateDecl) *pb.JobGraph {
	return &pb.JobGraph{Vertices: []*pb.Vertex{{MaxParallelism: 16, Operators: []*pb.Operator{{Uid: "op", States: states}}}}}
}

func oldJob(s *Store) upgrade.Old {
	return upgrade.Old{Graph: graphOf(s.Declared()), Manifest: &pb.Manifest{Operators: []*pb.OperatorSnapshot{
		{Uid: "op", MaxParallelism: 16, Runs: []*pb.RunRef{{Length: 1}}},
	}}}
}
