package worker

import (
	"bytes"
	"fmt"
	"log/slog"

	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// build makes the attempt's tasks and wires them; nothing runs yet.
func (a *attempt) build() error {
	vertices, err := a.chains()
	if err != nil {
		return err
	}
	a.members = make(map[string]*graph.Member)
	for _, v := range vertices {
		for i := range v.Members {
			a.members[v.Members[i].UID] = &v.Members[i]
		}
	}
	close(a.graphed)
	if err := a.checkRestore(); err != nil {
		return err
	}
	a.keepRestored()
	a.network, err = exchange.NewNetwork(exchange.Config{
		JobID: a.w.cfg.JobID, Epoch: a.epoch, Graph: a.deploy.GetGraph(),
		Workers: a.deploy.GetWorkers(), SlotWorker: a.deploy.GetSlotWorker(), Self: int(a.deploy.GetSelf()),
		Listener: a.w.cfg.DataListener,
	})
	if err != nil {
		return err
	}
	for _, v := range vertices {
		for subtask := range v.Parallelism {
			if !a.network.Local(subtask) {
				continue
			}
			t, err := a.wire(v, vertices, subtask)
			if err != nil {
				return fmt.Errorf("deploy %s, subtask %d: %w", v.Name, subtask, err)
			}
			a.tasks = append(a.tasks, &running{Task: t, vertex: v, subtask: subtask})
			if t.Source() != nil {
				a.sources.Add(1)
			}
		}
	}
	return nil
}

// chains builds the job's graph again and checks that it is the one that the
// master deploys.
func (a *attempt) chains() ([]*graph.Vertex, error) {
	var g *graph.Graph
	err := protect(codeBuildFailed, func() (err error) {
		g, err = a.w.cfg.Graph()
		return err
	})
	if err != nil {
		return nil, failf(codeBuildFailed, "build the job's graph: %w", err)
	}
	parallelism := int(a.deploy.GetGraph().GetConfig().GetDefaultParallelism())
	plan, err := graph.Plan(g, parallelism)
	if err != nil {
		return nil, failf(codeBuildFailed, "plan the job's graph: %w", err)
	}
	if !bytes.Equal(plan.GetPlanHash(), a.deploy.GetPlanHash()) {
		return nil, failf(codePlanDiffers, "the binary builds a graph with plan hash %.8x, the job master deploys %.8x: build must depend on nothing but the job's arguments",
			plan.GetPlanHash(), a.deploy.GetPlanHash())
	}
	vertices, err := graph.Chains(g, parallelism)
	if err != nil {
		return nil, err
	}
	return vertices, rescale(vertices, a.deploy.GetGraph())
}

// wire makes one subtask of a vertex.
func (a *attempt) wire(v *graph.Vertex, vertices []*graph.Vertex, subtask int) (*task.Task, error) {
	var t *task.Task
	box := task.NewMailbox()
	groups := keygroup.RangeOf(subtask, v.Parallelism, v.MaxParallelism)
	cfg := task.Config{
		VertexID: v.ID, Subtask: subtask, KeyGroups: groups, Mailbox: box,
		Clock: a.w.cfg.Clock, Log: a.w.cfg.Log, Patience: a.w.cfg.Patience,
		Scratch: a.w.scratch(),
		Restore: a.restorer(v, subtask), Ready: a.oneReady, Running: a.oneRunning, Snapshot: a.collect.part,
		Exhausted: a.oneExhausted, Metrics: a.meter.take,
	}
	err := protect(codeDeployFailed, func() error {
		for _, m := range v.Members {
			op := m.Node.New()
			c := a.context(&m, v, subtask, groups, box)
			c.Park = func(room <-chan struct{}) error { return t.Wait(room) }
			cfg.Operators = append(cfg.Operators, task.Operator{
				UID: m.UID, Name: m.Name, Parent: m.Parent, Operator: op, Context: c,
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := func(i int, tag string) exchange.Out {
		return exchange.Out{Operator: cfg.Operators[i].Operator, Name: cfg.Operators[i].Name, Tag: tag}
	}
	in := func(i, port int) exchange.In {
		return exchange.In{Operator: cfg.Operators[i].Operator, Name: cfg.Operators[i].Name, Port: port}
	}
	for i, m := range v.Members {
		if m.Parent < 0 {
			continue
		}
		if err := m.Edge.Type.Connect(out(m.Parent, m.Edge.Tag), in(i, m.Edge.Port)); err != nil {
			return nil, err
		}
	}
	ports := make(map[int]bool)
	for _, input := range v.Inputs {
		if ports[input.Edge.Port] {
			continue // a union: one gate reads all edges of the port
		}
		ports[input.Edge.Port] = true
		g, err := input.Edge.Type.NewGate(a.network, exchange.GateConfig{
			Vertex: v.Index, Subtask: subtask, To: in(0, input.Edge.Port), Notify: box.Notify(), Press: box.Press,
		})
		if err != nil {
			return nil, err
		}
		cfg.Gates = append(cfg.Gates, g)
	}
	for _, o := range v.Outputs {
		w, err := o.Edge.Type.NewWriter(a.network, exchange.WriterConfig{
			Edge: o.ID, Subtask: subtask, From: out(o.Member, o.Edge.Tag),
			To: vertices[o.To].Members[0].Name, Key: o.Edge.Key,
			Park: func(room <-chan struct{}) (bool, error) { return t.Park(room) },
		})
		if err != nil {
			return nil, err
		}
		cfg.Outputs = append(cfg.Outputs, task.Output{Writer: w, From: o.Member})
	}
	t, err = task.New(cfg)
	return t, err
}

// context is what an operator knows of where it runs.
func (a *attempt) context(m *graph.Member, v *graph.Vertex, subtask int, groups keygroup.Range, box *task.Mailbox) *operator.Context {
	c := &operator.Context{
		JobID: a.w.cfg.JobID, JobName: a.w.cfg.JobName, Epoch: a.epoch, Lineage: a.deploy.GetLineage(),
		Name: m.Name, UID: m.UID, Subtask: subtask, Parallelism: v.Parallelism, KeyGroups: groups,
		State: a.store(groups, subtask), Clock: a.w.cfg.Clock, ShardAddress: a.w.cfg.ShardAddress,
		Log:     a.w.cfg.Log.With(slog.String("operator", m.Name), slog.Int("subtask", subtask)),
		Batch:   a.deploy.GetGraph().GetConfig().GetBatch(),
		Attempt: a.ctx, Wake: box.Wake, Held: a.outputHeld, FirstOutput: a.outputSeen,
		Metrics: &operator.Metrics{},
	}
	c.Mail = func(f func() error) {
		box.Post(func() error {
			c.Enter()
			return f()
		})
	}
	c.Fail = func(err error) {
		box.Mail(func() error {
			c.Enter()
			return err
		})
	}
	return c
}

// outputHeld is for sinks, of any goroutine: at most one report a checkpoint.
func (a *attempt) outputHeld() {
	if !a.held.Swap(true) {
		a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Held{Held: &pb.OutputHeld{}}})
	}
}

func (a *attempt) outputSeen() {
	if !a.firstOutput.Swap(true) {
		a.report(&pb.WorkerReport{Body: &pb.WorkerReport_FirstOutput{FirstOutput: &pb.FirstOutput{AtMs: a.w.now()}}})
	}
}

// oneExhausted counts the sources that have reached their end.
func (a *attempt) oneExhausted() {
	if a.sources.Add(-1) == 0 {
		a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Exhausted{Exhausted: &pb.SourcesExhausted{}}})
	}
}
