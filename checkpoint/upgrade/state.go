package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/checkpoint/schema"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Verdict is what becomes of a state, or of an operator with all its states.
type Verdict string

// Verdicts, the better before the worse.
const (
	Unchanged    Verdict = "unchanged"
	Added        Verdict = "added"
	Migrated     Verdict = "migrated"
	Removed      Verdict = "removed"
	Incompatible Verdict = "incompatible"
)

// State is the verdict on one state.
type State struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind"`
	Verdict Verdict `json:"verdict"`
	// Changes are all that differs, also where it is compatible.
	Changes []Change `json:"changes"`
}

// Change is one difference of a state. Paths begin with key or value; kind and
// namespace are themselves.
type Change struct {
	Path string `json:"path"`
	// What is added, removed, renamed, widened, moved or differs.
	What schema.What `json:"what"`
	Old  string      `json:"old,omitempty"`
	New  string      `json:"new,omitempty"`
	Text string      `json:"text"`
}

// CompareState judges one state. An error is a schema that cannot be read.
func CompareState(old, now *pb.StateDecl) (State, error) {
	s := State{Name: now.GetName(), Kind: cmp.Or(now.GetKind(), old.GetKind()), Verdict: Unchanged, Changes: []Change{}}
	if a, b := old.GetKind(), now.GetKind(); a != b && says(a) && says(b) {
		s.differs("kind", a, b)
	}
	if a, b := old.GetNamespaceSchema(), now.GetNamespaceSchema(); a != b {
		s.differs("namespace", a, b)
	}
	keys, err := schema.DiffKey(old.GetKeySchema(), now.GetKeySchema())
	values, valueErr := schema.Diff(valueOf(old), valueOf(now))
	if err := errors.Join(err, valueErr); err != nil {
		return s, fmt.Errorf("state %q: %w", s.Name, err)
	}
	for _, c := range append(keys, values...) {
		s.Changes = append(s.Changes, Change{c.Path, c.What, c.Old, c.New, c.String()})
		if c.What == schema.Differs {
			s.Verdict = Incompatible
		} else if s.Verdict == Unchanged {
			s.Verdict = Migrated
		}
	}
	s.compareLife(old, now)
	return s, nil
}

// valueOf is the schema of a state's values, without their ages.
func valueOf(d *pb.StateDecl) string {
	if d.GetTtl() == "" {
		return d.GetValueSchema()
	}
	return schema.Unaged(d.GetValueSchema())
}

// compareLife says what becomes of the time to live. Any change will do: where
// ages are not known, or in another time, entries are as if used at the restore.
func (s *State) compareLife(old, now *pb.StateDecl) {
	a, b := lifeOf(old), lifeOf(now)
	if a == b {
		return
	}
	c := Change{Path: "time to live", What: schema.Widened, Old: a, New: b, Text: fmt.Sprintf("time to live was %s and is %s", cmp.Or(a, "none"), cmp.Or(b, "none"))}
	switch {
	case a == "":
		c.What = schema.Added
	case b == "":
		c.What = schema.Removed
	}
	s.Changes = append(s.Changes, c)
	if s.Verdict == Unchanged {
		s.Verdict = Migrated
	}
}

func lifeOf(d *pb.StateDecl) string {
	if d.GetTtl() == "" {
		return ""
	}
	return fmt.Sprintf("%v of %s time", time.Duration(d.GetTtlMs())*time.Millisecond, d.GetTtl())
}

// says is false of a state that does not say what it is.
func says(kind string) bool { return kind != "" && kind != "table" }

func (s *State) differs(what, old, now string) {
	c := schema.Change{Path: what, What: schema.Differs, Old: cmp.Or(old, "none"), New: cmp.Or(now, "none")}
	s.Changes = append(s.Changes, Change{c.Path, c.What, c.Old, c.New, c.String()})
	s.Verdict = Incompatible
}

// why lists what makes a state incompatible.
func (s *State) why() string {
	var all []string
	for _, c := range s.Changes {
		if c.What == schema.Differs {
			all = append(all, c.Text)
		}
	}
	return strings.Join(all, ", ")
}

// CheckState is CompareState where only refusal matters. The error is a *Refusal
// that says what differs.
func CheckState(old, now *pb.StateDecl) error {
	s, err := CompareState(old, now)
	if err != nil {
		return err
	}
	if s.Verdict == Incompatible {
		return &Refusal{Incompatible, fmt.Sprintf("state %q: %s; %s", s.Name, s.why(), remedy)}
	}
	return nil
}

// remedy is what to do about state that cannot follow.
const remedy = "fields can be added, removed, renamed by tag and numbers widened (in keys only the last two), nothing else: keep the former type, or give the new state another name"
