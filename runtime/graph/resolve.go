package graph

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// resolved is a checked graph: nodes in topological order with what the
// defaults made of them.
type resolved struct {
	nodes []*member
	index map[*Node]*member
}

// member is a node with its defaults filled in.
type member struct {
	node           *Node
	uid, name      string
	parallelism    int
	maxParallelism int
	inputs         []shipped
}

// shipped is an input edge and how it travels.
type shipped struct {
	edge *Edge
	ship pb.Ship
}

func resolve(g *Graph, defaultParallelism int) (*resolved, error) {
	if len(g.Nodes) == 0 {
		return nil, fmt.Errorf("job %q has no operators: add a source and a sink", g.Name)
	}
	if err := checkName("job", g.Name); err != nil {
		return nil, err
	}
	r := &resolved{index: make(map[*Node]*member, len(g.Nodes))}
	for i, n := range g.Nodes {
		m, err := settle(g, n, i, defaultParallelism)
		if err != nil {
			return nil, err
		}
		if _, ok := r.index[n]; ok {
			return nil, fmt.Errorf("operator %s is in the graph twice", m.name)
		}
		r.index[n] = m
		r.nodes = append(r.nodes, m)
	}
	for _, check := range []func() error{r.uids, r.edges, r.order, r.connected, r.types} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// settle names a node and gives it its parallelism.
func settle(g *Graph, n *Node, position, defaultParallelism int) (*member, error) {
	m := &member{node: n, uid: n.UID, name: n.Name, parallelism: n.Parallelism, maxParallelism: n.MaxParallelism}
	auto := fmt.Sprintf("%s-%d", strings.ToLower(n.Kind), position)
	if n.Kind == "" {
		return nil, fmt.Errorf("operator %d (%q) has no kind", position, n.Name)
	}
	if len(n.States) > 0 && n.UID == "" && n.Name == "" {
		return nil, fmt.Errorf("%s keeps state %q and has no name: name it, so that its state is found again when the job changes", auto, n.States[0].GetName())
	}
	if m.name == "" {
		m.name = auto
	}
	if m.uid == "" {
		m.uid = m.name
	}
	if err := checkName("name of operator "+auto, m.name); err != nil {
		return nil, err
	}
	if err := checkName("uid of operator "+auto, m.uid); err != nil {
		return nil, err
	}
	if n.New == nil {
		return nil, fmt.Errorf("operator %s cannot be made: its node has no New", m.name)
	}
	if m.maxParallelism == 0 {
		if m.maxParallelism = g.MaxParallelism; m.maxParallelism == 0 {
			m.maxParallelism = keygroup.Default
		}
	}
	if m.maxParallelism < 1 || m.maxParallelism > keygroup.Max {
		return nil, fmt.Errorf("max parallelism %d of operator %s: it is 1 to %d", m.maxParallelism, m.name, keygroup.Max)
	}
	if m.parallelism == 0 {
		m.parallelism = g.parallelism(defaultParallelism)
	}
	if m.parallelism < 1 || m.parallelism > m.maxParallelism {
		return nil, fmt.Errorf("parallelism %d of operator %s: it is 1 to its max parallelism, %d", m.parallelism, m.name, m.maxParallelism)
	}
	return m, nil
}

func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s is empty", what)
	case len(name) > MaxName:
		return fmt.Errorf("%s has %d bytes, at most %d are allowed; it begins with %.40q", what, len(name), MaxName, name)
	case !utf8.ValidString(name):
		return fmt.Errorf("%s is not UTF-8: %.40q", what, name)
	}
	return nil
}

func (r *resolved) uids() error {
	seen := make(map[string]*member, len(r.nodes))
	for _, m := range r.nodes {
		if other, ok := seen[m.uid]; ok {
			return fmt.Errorf("operators %s (%s) and %s (%s) have the same uid %q: state could not be told apart, give one another name", other.name, other.node.Kind, m.name, m.node.Kind, m.uid)
		}
		seen[m.uid] = m
	}
	return nil
}

// edges checks every edge by itself and decides how it travels.
func (r *resolved) edges() error {
	for _, m := range r.nodes {
		if m.node.Source && len(m.node.Inputs) > 0 {
			return fmt.Errorf("source %s has an input", m.name)
		}
		for i, e := range m.node.Inputs {
			if e == nil || e.From == nil {
				return fmt.Errorf("input %d of %s comes from nowhere", i, m.name)
			}
			from, ok := r.index[e.From]
			if !ok {
				return fmt.Errorf("input %d of %s comes from %q, which is not in the graph: all streams of a job come from one environment", i, m.name, e.From.Name)
			}
			if e.Type == nil {
				return fmt.Errorf("the edge from %s to %s has no record type", from.name, m.name)
			}
			ship := e.Ship
			switch ship {
			case pb.Ship_SHIP_FORWARD:
				if from.parallelism != m.parallelism {
					ship = pb.Ship_SHIP_REBALANCE
				}
			case pb.Ship_SHIP_HASH:
				if err := e.Type.CheckKey(from.name, m.name, e.Key); err != nil {
					return err
				}
			case pb.Ship_SHIP_CUSTOM:
				if err := e.Type.CheckPartition(from.name, m.name, e.Key); err != nil {
					return err
				}
			case pb.Ship_SHIP_REBALANCE, pb.Ship_SHIP_BROADCAST:
			default:
				return fmt.Errorf("the edge from %s to %s has no way to ship records", from.name, m.name)
			}
			m.inputs = append(m.inputs, shipped{edge: e, ship: ship})
		}
	}
	return nil
}

// order sorts the nodes topologically; among those that could come next the
// one added first does.
func (r *resolved) order() error {
	missing := make(map[*member]int, len(r.nodes))
	followers := make(map[*member][]*member)
	for _, m := range r.nodes {
		missing[m] = len(m.inputs)
		for _, in := range m.inputs {
			from := r.index[in.edge.From]
			followers[from] = append(followers[from], m)
		}
	}
	sorted := make([]*member, 0, len(r.nodes))
	done := make(map[*member]bool, len(r.nodes))
	for len(sorted) < len(r.nodes) {
		var next *member
		for _, m := range r.nodes {
			if !done[m] && missing[m] == 0 {
				next = m
				break
			}
		}
		if next == nil {
			return r.cycle(done)
		}
		done[next] = true
		sorted = append(sorted, next)
		for _, f := range followers[next] {
			missing[f]--
		}
	}
	r.nodes = sorted
	return nil
}

// cycle names the operators of one cycle among the nodes that are not done.
func (r *resolved) cycle(done map[*member]bool) error {
	var at *member
	for _, m := range r.nodes {
		if !done[m] {
			at = m
			break
		}
	}
	// Every node that is not done has an input that is not: going back from
	// input to input must come round.
	position := make(map[*member]int)
	var path []string
	for {
		if p, ok := position[at]; ok {
			names := append(path[p:len(path):len(path)], at.name)
			for i, j := 0, len(names)-1; i < j; i, j = i+1, j-1 {
				names[i], names[j] = names[j], names[i]
			}
			return fmt.Errorf("the graph has a cycle: %s", strings.Join(names, " -> "))
		}
		position[at] = len(path)
		path = append(path, at.name)
		for _, in := range at.inputs {
			if from := r.index[in.edge.From]; !done[from] {
				at = from
				break
			}
		}
	}
}

func (r *resolved) connected() error {
	used := make(map[*Node]bool)
	for _, m := range r.nodes {
		for _, in := range m.inputs {
			used[in.edge.From] = true
		}
	}
	for _, m := range r.nodes {
		if !m.node.Source && len(m.inputs) == 0 {
			return fmt.Errorf("operator %s has no input", m.name)
		}
	}
	for _, m := range r.nodes {
		if m.node.Source && !used[m.node] {
			return fmt.Errorf("source %s is not connected to anything: read from it or remove it", m.name)
		}
	}
	return nil
}

// types makes one instance of each operator and checks that the two ends of
// every edge have its record type.
func (r *resolved) types() error {
	made := make(map[*member]operator.Operator, len(r.nodes))
	for _, m := range r.nodes {
		if made[m] = m.node.New(); made[m] == nil {
			return fmt.Errorf("operator %s cannot be made: New returned nil", m.name)
		}
		for _, in := range m.inputs {
			from := r.index[in.edge.From]
			err := in.edge.Type.Check(
				exchange.Out{Operator: made[from], Name: from.name, Tag: in.edge.Tag},
				exchange.In{Operator: made[m], Name: m.name, Port: in.edge.Port})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
