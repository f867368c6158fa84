package sdk

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/millrace/millrace/runtime/graph"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// node is an operator of the graph with what only plan mode wants to know.
type node struct {
	*graph.Node
	env *Env
	// keyed nodes keep state and need a name of their own.
	keyed bool
	named bool
	// suggested is the name that a source or sink has for itself.
	suggested string
	// tags are the side outputs that the operator declares.
	tags map[string]bool
	// pair is the source of a decoding operator: to its user the two are one.
	pair *node
	// parts are the operators, this one among them, that are one to their user.
	parts []part
	// used says that some operator reads the main output.
	used bool
	// stamps says whether the operator gives (1), takes (-1) or passes on (0)
	// event times.
	stamps func() int
	// eventTime says that the operator cannot work without event time.
	eventTime bool
	timed     bool
	// plan runs when build has returned and names are final: it declares
	// state and refuses types, each error to be prefixed with the name.
	plan []func() error
}

// part is one of several operators that are one to their user.
type part struct {
	*node
	// suffix is what its name has behind that of the whole.
	suffix string
	// chained parts have the parallelism of their input.
	chained bool
}

// output is one output of a node.
type output struct {
	*node
	tag string
}

// add puts an operator into the graph, named kind-n until Named.
func (e *Env) add(kind string) *node {
	n := &node{Node: &graph.Node{Kind: kind}, env: e, tags: map[string]bool{}}
	short := strings.ToLower(strings.ReplaceAll(kind, " ", "-"))
	e.kinds[short]++
	n.Name = fmt.Sprintf("%s-%d", short, e.kinds[short])
	n.UID = n.Name
	e.nodes = append(e.nodes, n)
	e.g.Nodes = append(e.g.Nodes, n.Node)
	return n
}

func (n *node) rename(name string) {
	for _, p := range n.parts {
		p.Name, p.UID, p.named = name+p.suffix, name+p.suffix, true
	}
	if len(n.parts) > 0 {
		return
	}
	n.named = true
	if n.pair != nil {
		n.pair.rename(name)
		name += "-decode"
	}
	n.Name, n.UID = name, name
}

// connect makes edges from outputs to an input of a node. The type is derived when the
// operator's name is final.
func connect[T any](n *node, port int, from []output, ship pb.Ship, key any) {
	for _, o := range from {
		if o.env != n.env {
			n.env.fail(errors.New("streams of different jobs cannot be connected: build each from its own Env"))
			return
		}
		if o.tag == "" {
			o.used = true
		}
		e := &graph.Edge{From: o.Node, Tag: o.tag, Port: port, Ship: ship, Key: key}
		n.Inputs = append(n.Inputs, e)
		n.plan = append(n.plan, func() (err error) {
			e.Type, err = typeOf[T]()
			return err
		})
	}
}

// maxName bounds names: they are in object keys, metrics and on screens.
const maxName = 120

// checkName refuses names that no screen, metric or state key could hold.
func checkName(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return errors.New("it is empty")
	case len(name) > maxName:
		return fmt.Errorf("%.20q… has %d bytes; at most %d are allowed", name, len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%q is not UTF-8", name)
	case strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0:
		return fmt.Errorf("%q has characters that do not print", name)
	}
	return nil
}

// finish checks the graph that build made and returns all that is wrong with it.
func (e *Env) finish() error {
	if len(e.nodes) == 0 {
		e.fail(errors.New("the job has no operators: begin with sdk.From(env, source) and end with To(sink)"))
	}
	byUID := map[string]*node{}
	for _, n := range e.nodes {
		n.check(byUID)
	}
	for _, n := range e.nodes {
		n.checkTime()
	}
	e.checkBatch()
	return errors.Join(e.errs...)
}

func (n *node) fail(format string, args ...any) {
	n.env.fail(fmt.Errorf("operator %q: %w", n.Name, fmt.Errorf(format, args...)))
}

func (n *node) warn(format string, args ...any) {
	n.env.g.Warnings = append(n.env.g.Warnings, fmt.Sprintf("operator %q: %s", n.Name, fmt.Sprintf(format, args...)))
}

func (n *node) check(byUID map[string]*node) {
	if err := checkName(n.Name); err != nil {
		n.fail("its name: %w", err)
	}
	if n.keyed && !n.named {
		n.fail("it keeps state and has no name, so a restore could not find the state again: give it one, as in Reduce(\"totals\", …)")
	}
	if other := byUID[n.UID]; other != nil {
		n.fail("two operators (%s and %s) have this name, which maps their state: rename one with Named", other.Kind, n.Kind)
	}
	byUID[n.UID] = n
	for _, f := range n.plan {
		if err := f(); err != nil {
			n.fail("%w", err)
		}
	}
	if !n.used && n.Kind != kindSink {
		n.fail("nothing reads what it emits: end the stream with To(sink)")
	}
}

func (n *node) groups() int {
	if n.MaxParallelism > 0 {
		return n.MaxParallelism
	}
	return n.env.g.MaxParallelism
}

// checkTime finds which operators see event times. Nodes are in topological
// order, for an operator's inputs exist before it does.
func (n *node) checkTime() {
	byNode := map[*graph.Node]*node{}
	for _, m := range n.env.nodes {
		byNode[m.Node] = m
	}
	n.timed = len(n.Inputs) > 0
	for _, in := range n.Inputs {
		n.timed = n.timed && byNode[in.From].timed
	}
	if n.eventTime && !n.timed {
		n.fail("its windows, timers or times to live are in event time, and its input has no timestamps: call WithTimestamps on the stream before it, or use processing time")
	}
	if n.stamps != nil {
		switch n.stamps() {
		case 1:
			n.timed = true
		case -1:
			n.timed = false
		}
	}
}
