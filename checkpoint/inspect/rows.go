package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/schema"
	"github.com/millrace/millrace/checkpoint/snapshot"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Row is one live entry of keyed state. Key, At and Value are JSON.
type Row struct {
	State string `json:"state"`
	Kind  string `json:"kind"`
	// Time is when a window's slice begins, Namespace its number; absent for
	// state without namespaces.
	Namespace *int64 `json:"namespace,omitempty"`
	Time      string `json:"time,omitempty"`
	// Key is the stream's key.
	Key json.RawMessage `json:"key"`
	// At is the index in a list or the key in a map, absent for others.
	At    json.RawMessage `json:"at,omitempty"`
	Value json.RawMessage `json:"value"`
}

// Query says which rows.
type Query struct {
	// Operator is a name or uid, State one of its states, or empty for all.
	Operator, State string
	// Key, where it is set, is the only key: a string as it is, others as JSON.
	Key *string
}

// NotFoundError is what a query names and the manifest does not have.
type NotFoundError struct{ Text string }

func (e *NotFoundError) Error() string { return e.Text }

// ErrEnough ends Rows from inside yield, without an error.
var ErrEnough = errors.New("enough rows")

// Select reads operator/state, or operator alone; either name may hold slashes.
func Select(m *pb.Manifest, text string) (operator, state string, err error) {
	if find(m, text) != nil {
		return text, "", nil
	}
	for i := range len(text) {
		if text[i] != '/' {
			continue
		}
		if o := find(m, text[:i]); o != nil {
			if stateOf(o, text[i+1:]) != nil {
				return text[:i], text[i+1:], nil
			}
			err = noState(o, text[i+1:])
		}
	}
	if err != nil {
		return "", "", err
	}
	return "", "", noOperator(m, text)
}

// find looks for an operator by its uid, else by its name.
func find(m *pb.Manifest, name string) *pb.Operator {
	var named *pb.Operator
	for _, v := range m.GetGraph().GetVertices() {
		for _, o := range v.GetOperators() {
			if o.GetUid() == name {
				return o
			}
			if o.GetName() == name {
				named = o
			}
		}
	}
	return named
}

func stateOf(o *pb.Operator, name string) *pb.StateDecl {
	i := slices.IndexFunc(o.GetStates(), func(d *pb.StateDecl) bool { return d.GetName() == name })
	if i < 0 {
		return nil
	}
	return o.GetStates()[i]
}

func noOperator(m *pb.Manifest, name string) error {
	var with []string
	for _, v := range m.GetGraph().GetVertices() {
		for _, o := range v.GetOperators() {
			if len(o.GetStates()) > 0 {
				with = append(with, fmt.Sprintf("%q", o.GetName()))
			}
		}
	}
	if len(with) == 0 {
		return &NotFoundError{fmt.Sprintf("no operator of job %q keeps keyed state", m.GetGraph().GetName())}
	}
	return &NotFoundError{fmt.Sprintf("job %q has no operator %q; keyed state is kept by %s", m.GetGraph().GetName(), name, strings.Join(with, ", "))}
}

func noState(o *pb.Operator, name string) error {
	var all []string
	for _, d := range o.GetStates() {
		if !companion(d, o.GetStates()) {
			all = append(all, fmt.Sprintf("%q", d.GetName()))
		}
	}
	return &NotFoundError{fmt.Sprintf("operator %q has no state %q; it has %s", o.GetName(), name, strings.Join(all, ", "))}
}

// Rows calls yield for the live entries, in the order of subtasks and of their
// runs: key group, state, namespace, bytes of the key. The row is valid during
// the call. yield's error ends it and comes back; ErrEnough does so as nil.
func Rows(ctx context.Context, b blob.Bucket, m *pb.Manifest, q Query, yield func(*Row) error) error {
	o := find(m, q.Operator)
	if o == nil || len(o.GetStates()) == 0 {
		return noOperator(m, q.Operator)
	}
	decoders := map[string]*decoder{}
	for _, d := range o.GetStates() {
		if q.State == "" && companion(d, o.GetStates()) || q.State != "" && d.GetName() != q.State {
			continue
		}
		var err error
		if decoders[d.GetName()], err = newDecoder(d); err != nil {
			return fmt.Errorf("operator %q: %w", o.GetUid(), err)
		}
	}
	if len(decoders) == 0 {
		return noState(o, q.State)
	}
	w := walk{q: q, decoders: decoders, yield: yield}
	snaps := slices.Clone(m.GetOperators())
	slices.SortStableFunc(snaps, func(a, b *pb.OperatorSnapshot) int { return int(a.GetSubtask()) - int(b.GetSubtask()) })
	for _, s := range snaps {
		if s.GetUid() != o.GetUid() || len(s.GetRuns()) == 0 {
			continue
		}
		if err := w.subtask(ctx, b, s); err != nil {
			if errors.Is(err, ErrEnough) {
				return nil
			}
			return fmt.Errorf("operator %q, subtask %d: %w", o.GetUid(), s.GetSubtask(), err)
		}
	}
	return nil
}

// walk gives the rows of one operator.
type walk struct {
	q        Query
	decoders map[string]*decoder
	yield    func(*Row) error
	row      Row
}

// owned are the key groups of a subtask.
func owned(s *pb.OperatorSnapshot) (first, last int) {
	n, p, i := int(s.GetMaxParallelism()), int(s.GetParallelism()), int(s.GetSubtask())
	p = max(p, 1)
	return (i*n + p - 1) / p, ((i+1)*n+p-1)/p - 1
}

func (w *walk) subtask(ctx context.Context, b blob.Bucket, s *pb.OperatorSnapshot) error {
	first, last := owned(s)
	if g, ok := w.group(int(s.GetMaxParallelism())); ok {
		if g < first || g > last {
			return nil
		}
		first, last = g, g
	}
	readers, err := snapshot.OpenChain(ctx, b, s.GetRuns(), first, last)
	if err != nil {
		return err
	}
	defer closeAll(readers)
	merged := snapshot.Merge(readers)
	for n := 0; merged.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		e := merged.Entry()
		d := w.decoders[e.State]
		if d == nil {
			continue
		}
		if err := d.row(&w.row, e.Namespace, e.Key, e.Value); err != nil {
			return fmt.Errorf("key group %d, state %q: %w", e.Group, e.State, err)
		}
		if w.q.Key != nil && !sameKey(*w.q.Key, w.row.Key) {
			continue
		}
		if err := w.yield(&w.row); err != nil {
			return err
		}
	}
	return merged.Err()
}

// group is the only key group that can hold the key that is asked for, if its
// text says so for every state.
func (w *walk) group(groups int) (group int, ok bool) {
	if w.q.Key == nil {
		return 0, false
	}
	for _, d := range w.decoders {
		b, parsed := d.stream.ParseScalar(*w.q.Key)
		if !parsed {
			return 0, false
		}
		hash, err := schema.NewHasher(d.stream).Hash(b)
		g := schema.GroupOf(hash, groups)
		if err != nil || ok && g != group {
			return 0, false
		}
		group, ok = g, true
	}
	return group, ok
}

// sameKey compares what a user gave with a key in JSON.
func sameKey(text string, key json.RawMessage) bool {
	if text == string(key) {
		return true
	}
	var s string
	return len(key) > 0 && key[0] == '"' && json.Unmarshal(key, &s) == nil && s == text
}

// closeAll ends what readers have under way.
func closeAll(readers []*snapshot.Reader) {
	for _, r := range readers {
		_ = r.Close()
	}
}
