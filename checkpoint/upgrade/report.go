package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Report is what becomes of all state.
type Report struct {
	Operators []Operator `json:"operators"`

	old *Old
	now *pb.JobGraph
}

// Operator is the verdict on an operator: the worst of its states' and its own.
// One that keeps nothing in either version is not in a report.
type Operator struct {
	UID     string  `json:"uid"`
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Reason says why the operator itself cannot go on, whatever its states are.
	Reason string  `json:"reason,omitempty"`
	States []State `json:"states"`

	gone bool // the new version has no such operator
}

// Refusal is why a version cannot take up state.
type Refusal struct {
	// Verdict is Incompatible, or Removed where state may be left behind if the
	// user allows it.
	Verdict Verdict
	Text    string
}

func (r *Refusal) Error() string { return r.Text }

// Old is what there is to take up.
type Old struct {
	// Graph is the job that has the state.
	Graph *pb.JobGraph
	// Manifest says what it holds. It may be nil for a job that runs.
	Manifest *pb.Manifest
	// Running says that the job goes on: what the graph declares may hold
	// something by the time it stops, whatever the manifest says.
	Running bool
}

// holding is what an operator of the old version keeps.
type holding struct {
	runs, entries   bool
	splits, handles bool
	groups          uint32
	flights         []flight
}

// holdings by uid, from the manifest and, of a job that goes on, from its graph.
func (o *Old) holdings() (map[string]holding, error) {
	all := map[string]holding{}
	for _, s := range o.Manifest.GetOperators() {
		h := all[s.GetUid()]
		if len(s.GetRuns()) > 0 {
			h.runs, h.groups = true, s.GetMaxParallelism()
		}
		for _, e := range s.GetEntries() {
			if e.GetKind() == checkpoint.EntryInFlight && o.Running {
				continue // its last savepoint has none
			}
			h.entries = true
			h.splits = h.splits || e.GetKind() == checkpoint.EntrySplit
			h.handles = h.handles || e.GetKind() == checkpoint.EntryHandle
		}
		all[s.GetUid()] = h
	}
	if !o.Running {
		flights, err := flightsOf(o.Manifest)
		for uid, f := range flights {
			h := all[uid]
			h.flights = f
			all[uid] = h
		}
		return all, err
	}
	for _, v := range o.Graph.GetVertices() {
		for _, op := range v.GetOperators() {
			h := all[op.GetUid()]
			if len(op.GetStates()) > 0 {
				h.runs, h.groups = true, v.GetMaxParallelism()
			}
			h.splits = h.splits || op.GetSource()
			h.handles = h.handles || op.GetTransactionalSink()
			h.entries = h.entries || h.splits || h.handles
			all[op.GetUid()] = h
		}
	}
	return all, nil
}

// Compare judges a new version. The error is a schema, or a batch of records in
// flight, that cannot be read.
func Compare(old Old, now *pb.JobGraph) (*Report, error) {
	r := &Report{Operators: []Operator{}, old: &old, now: now}
	holdings, err := old.holdings()
	if err != nil {
		return nil, err
	}
	then := operatorsOf(old.Graph)
	here := operatorsOf(now)
	order := uids(old.Graph)
	for _, s := range old.Manifest.GetOperators() {
		if then[s.GetUid()].Operator == nil && !slices.Contains(order, s.GetUid()) {
			order = append(order, s.GetUid()) // the graph should name it
		}
	}
	for _, uid := range order {
		h := holdings[uid]
		if !h.runs && !h.entries {
			continue
		}
		op, err := compare(uid, h, then[uid].Operator, here[uid])
		if err != nil {
			return nil, err
		}
		r.Operators = append(r.Operators, op)
	}
	for _, uid := range uids(now) {
		op := here[uid]
		if h := holdings[uid]; h.runs || h.entries || len(op.GetStates()) == 0 && !op.GetSource() && !op.GetTransactionalSink() {
			continue
		}
		added := Operator{UID: uid, Name: op.GetName(), Verdict: Added, States: []State{}}
		added.all(op.GetStates(), Added)
		r.Operators = append(r.Operators, added)
	}
	return r, nil
}

// placed is an operator with the vertex that it is in.
type placed struct {
	*pb.Operator
	groups uint32
	vertex *pb.Vertex
	inputs []*pb.Input // of the vertex
}

func operatorsOf(g *pb.JobGraph) map[string]placed {
	m := map[string]placed{}
	for _, v := range g.GetVertices() {
		for _, o := range v.GetOperators() {
			m[o.GetUid()] = placed{o, v.GetMaxParallelism(), v, v.GetInputs()}
		}
	}
	return m
}

func uids(g *pb.JobGraph) []string {
	var all []string
	for _, v := range g.GetVertices() {
		for _, o := range v.GetOperators() {
			all = append(all, o.GetUid())
		}
	}
	return all
}

// compare judges an operator that keeps something.
func compare(uid string, h holding, then *pb.Operator, now placed) (Operator, error) {
	op := Operator{UID: uid, Name: uid, Verdict: Unchanged, States: []State{}}
	if then != nil {
		op.Name = then.GetName()
	}
	if now.Operator == nil {
		op.Verdict, op.gone = Removed, true
		op.all(then.GetStates(), Removed)
		return op, nil
	}
	op.Name = now.GetName()
	switch {
	case h.runs && h.groups != now.groups:
		op.Reason = fmt.Sprintf("max parallelism is %d and its state was written with %d: set it to %d, it cannot change", now.groups, h.groups, h.groups)
	case h.splits && !now.GetSource():
		op.Reason = fmt.Sprintf("it was a source and is now a %s, and its positions would be lost: give the %s another name", now.GetKind(), now.GetKind())
	case h.handles && !now.GetTransactionalSink():
		op.Reason = fmt.Sprintf("it was a transactional sink and is now a %s, and what it has prepared would never be committed: give the %s another name", now.GetKind(), now.GetKind())
	}
	for i := range h.flights {
		if op.Reason != "" {
			break
		}
		var err error
		if op.Reason, err = h.flights[i].refuse(now); err != nil {
			return op, fmt.Errorf("operator %q: %w", uid, err)
		}
	}
	if op.Reason != "" {
		op.Verdict = Incompatible
	}
	if err := op.compareStates(h, then, now); err != nil {
		return op, fmt.Errorf("operator %q: %w", uid, err)
	}
	return op, nil
}

func (o *Operator) compareStates(h holding, then *pb.Operator, now placed) error {
	var old []*pb.StateDecl
	if h.runs {
		old = then.GetStates() // without runs nothing is in them
	}
	find := func(in []*pb.StateDecl, name string) *pb.StateDecl {
		if i := slices.IndexFunc(in, func(s *pb.StateDecl) bool { return s.GetName() == name }); i >= 0 {
			return in[i]
		}
		return nil
	}
	for _, s := range old {
		if companion(s, old) {
			continue
		}
		state := State{Name: s.GetName(), Kind: s.GetKind(), Verdict: Removed, Changes: []Change{}}
		if to := find(now.GetStates(), s.GetName()); to != nil {
			var err error
			if state, err = CompareState(s, to); err != nil {
				return err
			}
		}
		o.add(state)
	}
	for _, s := range now.GetStates() {
		if find(old, s.GetName()) == nil && !companion(s, now.GetStates()) {
			o.add(State{Name: s.GetName(), Kind: s.GetKind(), Verdict: Added, Changes: []Change{}})
		}
	}
	return nil
}

// companion says that a state is the sizes, or the gaps, of a list or map that is in
// the list: to its user they are one, and what becomes of one becomes of the others.
func companion(s *pb.StateDecl, all []*pb.StateDecl) bool {
	of, ok := strings.CutSuffix(s.GetName(), "/size")
	if !ok {
		of, ok = strings.CutSuffix(s.GetName(), "/gaps")
	}
	return ok && (s.GetKind() == "list" || s.GetKind() == "map") &&
		slices.ContainsFunc(all, func(d *pb.StateDecl) bool { return d.GetName() == of && d.GetKind() == s.GetKind() })
}

// all gives every state the same verdict.
func (o *Operator) all(states []*pb.StateDecl, v Verdict) {
	for _, s := range states {
		if !companion(s, states) {
			o.States = append(o.States, State{Name: s.GetName(), Kind: s.GetKind(), Verdict: v, Changes: []Change{}})
		}
	}
}

var severity = []Verdict{Unchanged, Added, Migrated, Removed, Incompatible}

func (o *Operator) add(s State) {
	o.States = append(o.States, s)
	verdict := s.Verdict
	if verdict == Added {
		verdict = Migrated // the operator was there
	}
	if slices.Index(severity, verdict) > slices.Index(severity, o.Verdict) {
		o.Verdict = verdict
	}
}

// Check is nil if the new version can take up what the old one holds. Else it
// is a *Refusal that names operator, state, what differs and what to do.
func (r *Report) Check(allowUnmatched bool) error {
	var wrong, unmatched []string
	for _, o := range r.Operators {
		if o.Reason != "" {
			wrong = append(wrong, fmt.Sprintf("operator %q: %s", o.UID, o.Reason))
		}
		if o.gone {
			unmatched = append(unmatched, fmt.Sprintf("operator %q", o.UID))
			continue
		}
		for _, s := range o.States {
			if s.Verdict == Incompatible {
				wrong = append(wrong, fmt.Sprintf("state %q of operator %q: %s; %s", s.Name, o.UID, s.why(), remedy))
			}
		}
		for _, name := range o.removed() {
			unmatched = append(unmatched, fmt.Sprintf("state %q of operator %q", name, o.UID))
		}
	}
	if len(wrong) > 0 {
		return &Refusal{Incompatible, strings.Join(wrong, "\n  ")}
	}
	if len(unmatched) == 0 || allowUnmatched {
		return nil
	}
	return &Refusal{Removed, fmt.Sprintf("nothing in job %q takes up %s: keep the names, or allow unmatched state to drop it (--allow-unmatched-state)",
		r.now.GetName(), strings.Join(unmatched, ", "))}
}

// removed lists the states that nothing takes up.
func (o *Operator) removed() []string {
	var names []string
	for _, s := range o.States {
		if s.Verdict == Removed {
			names = append(names, s.Name)
		}
	}
	return names
}

// Matches says whether any operator takes up what the old version holds; where
// none does, the state is that of another job. It is true where nothing is held.
func (r *Report) Matches() bool {
	gone := 0
	for _, o := range r.Operators {
		if !o.gone && o.Verdict != Added {
			return true
		}
		if o.gone {
			gone++
		}
	}
	return gone == 0
}
