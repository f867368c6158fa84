package state

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"github.com/millrace/millrace/checkpoint/schema"
	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/checkpoint/upgrade"
	"github.com/millrace/millrace/internal/planted"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Restore says how Load treats what it finds.
type Restore struct {
	// Declared are the states as the operator that wrote the runs declared
	// them: names and schemas. A state that is not among them has the
	// schemas that it has now.
	Declared []*pb.StateDecl
	// AllowUnmatched drops state that no table of this store has the name of.
	AllowUnmatched bool
	// WithoutTimers is a planted bug: timers are passed over.
	WithoutTimers bool
}

// UnmatchedError is state in a checkpoint that the operator does not declare.
type UnmatchedError struct {
	State string
}

func (e *UnmatchedError) Error() string {
	return fmt.Sprintf("the checkpoint has state %q, which the operator does not declare: declare it, or allow unmatched state to drop it", e.State)
}

// Load fills the tables from the runs of a restored checkpoint, which go from
// the oldest to the newest; entries of key groups that the store does not own
// are passed over. It is called once, after the tables were made, before any
// use. What it loaded is not part of the next delta.
//
// After an error the store is unusable.
func (s *Store) Load(readers []*snapshot.Reader, how Restore) (err error) {
	defer s.caught(&err)
	loaders := map[string]loader{}
	var name string
	var load loader // of the state of that name
	changes := snapshot.NewReplay(readers)
	for n := 0; ; n++ {
		if n%Stride == 0 {
			s.Ease()
		}
		if !changes.Next() {
			if err := changes.Err(); err != nil {
				return fmt.Errorf("load state: %w", err)
			}
			break
		}
		e := changes.At()
		if !s.groups.Contains(e.Group) {
			continue
		}
		if planted.TimerLostOnRescale && how.WithoutTimers && strings.HasPrefix(e.State, "timers") {
			continue
		}
		if load == nil || e.State != name {
			name = e.State
			if load = loaders[name]; load == nil {
				if load, err = s.loaderOf(name, how); err != nil {
					return err
				}
				loaders[name] = load
			}
		}
		if err := load(e, changes); err != nil {
			return fmt.Errorf("load state %q, key group %d: %w", e.State, e.Group, err)
		}
	}
	s.changes, s.drops = nil, nil
	s.now = unknownTimes
	s.epoch++
	return nil
}

func (s *Store) loaderOf(name string, how Restore) (loader, error) {
	r, ok := s.states[name]
	if !ok {
		if !how.AllowUnmatched {
			return nil, &UnmatchedError{name}
		}
		// The runs still have it: only a full snapshot leaves it behind.
		s.lost = s.epoch
		return func(*snapshot.Entry, *snapshot.Replay) error { return nil }, nil
	}
	now := s.declaration(name, r)
	old := now
	for _, d := range how.Declared {
		if d.GetName() == name {
			old = d
		}
	}
	if err := CompatibleState(old, now); err != nil {
		return nil, err
	}
	if old.GetKeySchema() != now.GetKeySchema() || old.GetValueSchema() != now.GetValueSchema() || old.GetTtl() != now.GetTtl() {
		// A key has other bytes now, which would not hide its old ones; or values
		// have, and one chain of runs has values of one form, the newest.
		s.lost = s.epoch
	}
	return r.loader(old)
}

// CompatibleState says whether state declared as old can be restored to new.
func CompatibleState(old, new *pb.StateDecl) error {
	return upgrade.CheckState(old, new)
}

// loader makes the decoders of a state once; into finds the table of a namespace,
// and lookup does so without making one.
func (k *kind) loader(old *pb.StateDecl, groups keygroup.Range, into, lookup func(ns int64) *table) (loader, error) {
	readKey, err := k.keys.From(old.GetKeySchema())
	if err != nil {
		return nil, stateError(k.name, err)
	}
	valueSchema := old.GetValueSchema()
	aged := old.GetTtl() != ""
	if aged {
		valueSchema = schema.Unaged(valueSchema)
	}
	readValue, err := k.values.From(valueSchema)
	if err != nil {
		return nil, stateError(k.name, err)
	}
	entry := reflect.New(k.entry).UnsafePointer() // for keys, and values that replace others
	var ahead coming
	return func(e *snapshot.Entry, from *snapshot.Replay) error {
		k.clearEntries(entry, 1)
		key := entry
		if rest, err := readKey(&codec.Decoder{}, e.Key, key); err != nil || len(rest) > 0 {
			return fmt.Errorf("key %x: %w, %d bytes left", e.Key, err, len(rest))
		}
		hash := k.hash(key)
		if g := keygroup.Of(hash, groups.N); g != e.Group {
			return fmt.Errorf("key %v belongs to key group %d of %d: its hash is not what it was", k.show(key), g, groups.N)
		}
		if e.Delete {
			if t := lookup(e.Namespace); t != nil {
				t.delete(hash, key)
			}
			return nil
		}
		t := into(e.Namespace)
		if t != ahead.table || e.Group != ahead.group {
			ahead.begin(t, e.Group, groups.N, from)
		}
		value, age := e.Value, unknownTime
		if aged {
			if len(value) < 8 {
				return fmt.Errorf("value of key %v: %d bytes, want its age", k.show(key), len(value))
			}
			if old.GetTtl() == k.life.domain.String() {
				age = int64(binary.LittleEndian.Uint64(value))
			}
			value = value[8:]
		}
		if k.timed {
			t.s.now[k.life.domain] = age
		}
		v, fresh := t.upsert(hash, key)
		if !fresh {
			// The key is there: of its entry all but that becomes zero.
			k.copyEntries(unsafe.Add(v, -int(k.valueAt)), entry, 1)
			if k.timed {
				t.setAge(hash, key, age)
			}
		}
		if rest, err := readValue(&codec.Decoder{}, value, v); err != nil || len(rest) > 0 {
			return fmt.Errorf("value of key %v: %w, %d bytes left", k.show(key), err, len(rest))
		}
		return nil
	}, nil
}

func (k *kind) declare(name, namespaces string) *pb.StateDecl {
	d := &pb.StateDecl{
		Name: name, Kind: "table", NamespaceSchema: namespaces,
		KeySchema: k.keys.Schema(), ValueSchema: k.values.Schema(),
	}
	if k.timed {
		d.Ttl, d.TtlMs, d.ValueSchema = k.life.domain.String(), int64(k.life.span), schema.Aged(d.ValueSchema)
	}
	return d
}

// single is a table that is a state by itself.
type single struct{ t *table }

func (r *single) images(into []changeSet) []changeSet {
	return append(into, &image{r.t.of, 0, r.t.root, r.t.bytes})
}

func (r *single) loader(old *pb.StateDecl) (loader, error) {
	it := func(int64) *table { return r.t }
	return r.t.of.loader(old, r.t.s.groups, it, it)
}

func (r *single) types() *types { return &r.t.of.types }

func (r *single) declaration() *pb.StateDecl { return r.t.of.declare(r.t.of.name, "") }

func (r *single) size() Stats { return r.t.size() }
