package schema

import (
	"fmt"
	"slices"
)

// Change is one difference between two versions of a type.
type Change struct {
	// Path leads from the value to the part.
	Path string
	What What
	// Old and New are the schemas of that part; of a field that was renamed its
	// names. One is empty where a field came or went.
	Old, New string
}

// What kinds of changes there are.
type What string

// State follows all changes but Differs.
const (
	Added   What = "added"
	Removed What = "removed"
	Renamed What = "renamed"
	Widened What = "widened"
	// Moved says that fields of both have another order.
	Moved   What = "moved"
	Differs What = "differs"
)

func (c Change) String() string {
	switch c.What {
	case Added:
		return fmt.Sprintf("%s added: %.200s", c.Path, c.New)
	case Removed:
		return fmt.Sprintf("%s removed: %.200s", c.Path, c.Old)
	case Renamed:
		return fmt.Sprintf("%s renamed, was %s", c.Path, c.Old)
	case Moved:
		return fmt.Sprintf("%s: fields in another order", c.Path)
	case Widened:
		return fmt.Sprintf("%s widened: %s to %s", c.Path, c.Old, c.New)
	}
	return fmt.Sprintf("%s was %.200s and is %.200s", c.Path, c.Old, c.New)
}

// IncompatibleError is a change of a type that state cannot follow.
type IncompatibleError struct {
	// Path leads from the value to what differs.
	Path string
	// Old and New are the schemas of that part.
	Old, New string
}

func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("%s was %.200s and is %.200s; fields can be added, removed, renamed by tag and widened, nothing else: give the new one another name",
		e.Path, e.Old, e.New)
}

// Compatible says whether a type of schema new can read what one of schema old
// wrote: fields may have been added, removed, renamed by tag and widened. The
// error says what differs.
func Compatible(old, new string) error { return judge(old, new, "value", false) }

// CompatibleKey is Compatible for keys: numbers may widen and fields be renamed,
// which leaves the hash of a key as it was (docs/formats/keyhash.md), and
// nothing else changes.
func CompatibleKey(old, new string) error { return judge(old, new, "key", true) }

func judge(old, new, path string, key bool) error {
	changes, err := diff(old, new, path, key)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.What == Differs {
			return &IncompatibleError{c.Path, c.Old, c.New}
		}
	}
	return nil
}

// Diff lists what differs between two versions of a value, part by part; nothing
// differs between equal texts.
func Diff(old, new string) ([]Change, error) { return diff(old, new, "value", false) }

// DiffKey is Diff for keys: what CompatibleKey refuses, Differs.
func DiffKey(old, new string) ([]Change, error) { return diff(old, new, "key", true) }

func diff(old, new, path string, key bool) ([]Change, error) {
	if old == new {
		return nil, nil
	}
	o, err := Parse(old)
	if err != nil {
		return nil, err
	}
	n, err := Parse(new)
	if err != nil {
		return nil, err
	}
	d := differ{key: key}
	d.node(o, n, path)
	return d.changes, nil
}

type differ struct {
	key     bool
	changes []Change
}

func (d *differ) add(path string, what What, old, new string) {
	d.changes = append(d.changes, Change{path, what, old, new})
}

func (d *differ) node(old, new *Node, path string) {
	differs := func() { d.add(path, Differs, old.String(), new.String()) }
	if old.Kind != new.Kind {
		if widens(old.Kind, new.Kind) {
			d.add(path, Widened, old.String(), new.String())
		} else {
			differs()
		}
		return
	}
	switch new.Kind {
	case Proto, Binary:
		if old.Name != new.Name {
			differs()
		}
	case Array:
		if old.Length != new.Length {
			differs()
			return
		}
		d.node(old.Elem, new.Elem, path+"[]")
	case Slice:
		d.node(old.Elem, new.Elem, path+"[]")
	case Pointer:
		d.node(old.Elem, new.Elem, path)
	case Map:
		d.node(old.Key, new.Key, path+"[key]")
		d.node(old.Elem, new.Elem, path+"[]")
	case Struct:
		d.structure(old, new, path)
	}
}

func (d *differ) structure(old, new *Node, path string) {
	into := Match(old, new)
	if d.key && !inPlace(into, len(new.Fields)) {
		d.add(path, Differs, old.String(), new.String())
		return
	}
	last, moved := -1, false
	for i, f := range old.Fields {
		j := into[i]
		if j < 0 {
			d.add(path+"."+f.Name, Removed, f.Type.String(), "")
			continue
		}
		moved, last = moved || j < last, j
		to := new.Fields[j]
		if to.Name != f.Name {
			d.add(path+"."+to.Name, Renamed, f.Name, to.Name)
		}
		d.node(f.Type, to.Type, path+"."+to.Name)
	}
	for j, f := range new.Fields {
		if !slices.Contains(into, j) {
			d.add(path+"."+f.Name, Added, "", f.Type.String())
		}
	}
	if moved {
		d.add(path, Moved, old.String(), new.String())
	}
}

// inPlace says that all fields of both are the same, in the same order.
func inPlace(into []int, fields int) bool {
	for i, j := range into {
		if i != j {
			return false
		}
	}
	return len(into) == fields
}

// Match gives for each field of an older struct the place of the field that
// takes its value in a newer one, -1 for none: that of its name, or else the one
// that had this name before.
func Match(old, new *Node) []int {
	into := make([]int, len(old.Fields))
	for i := range into {
		into[i] = -1
	}
	for j, f := range new.Fields {
		if i := old.Field(f.Name); i >= 0 {
			into[i] = j
		}
	}
	for j, f := range new.Fields {
		if old.Field(f.Name) >= 0 {
			continue
		}
		for _, was := range f.Was {
			if i := old.Field(was); i >= 0 {
				if into[i] < 0 {
					into[i] = j
				}
				break
			}
		}
	}
	return into
}

// widens says whether every number of one kind is one of another of the same
// family, or an unsigned one fits a signed one.
func widens(from, to Kind) bool {
	signed := func(k Kind) bool { return k >= Int8 && k <= Int64 }
	unsigned := func(k Kind) bool { return k >= Uint8 && k <= Uint64 }
	switch {
	case signed(from):
		return signed(to) && to > from
	case unsigned(from):
		return (unsigned(to) || signed(to)) && to.Width() > from.Width()
	}
	return from == Float32 && to == Float64
}
