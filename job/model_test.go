package job

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// world plays everything around a master: task managers, workers with their
// tasks, bucket, journal and one transactional sink outside, each of which
// answers late, fails, hangs or dies. Links deliver in order. It is driven by
// a seed, and by virtual time.
type world struct {
	t     *testing.T
	seed  uint64
	r     *rand.Rand
	now   time.Time
	m     *Master
	calm  bool // nothing fails any more
	queue []timed
	order int
	log   []entry

	tms     map[string]int // slots of those that live
	want    int            // slots that the job waits for
	held    []string       // slots that the job holds
	resize  *ResizeSlots   // not granted yet
	workers map[string]*process
	journal []journalled
	record  *pb.JobRecord // fold of what the journal has
	bucket  map[string]*pb.Manifest
	sink    outside
	end     int // of a bounded source; 0 for none
	leader  int
	idle    int // ticks since time moved
	invariants
}

type timed struct {
	at    time.Time
	order int
	// leader that the event is for, 0 for any.
	leader int
	do     func()
}

type journalled struct {
	token  Token
	record *pb.JournalRecord
}

// process is a worker as the world sees it.
type process struct {
	id, tm   string
	dead     bool
	linkFree time.Time // when the link has delivered what was sent
	epoch    uint64
	deployed bool
	first    bool
	// The tasks of slot 0: a source that counts, and a sink that stages what
	// it counted.
	pos, from int
	running   bool
	prepared  []staged
	source    bool // holds a subtask of the source
	drainTo   int
	exhausted bool
	stopped   bool
	lines     lines // splits of the same subtask, which end and have followers
}

// staged is output between two barriers.
type staged struct {
	epoch, checkpoint uint64
	from, to          int
}

func (s staged) encode() []byte {
	return fmt.Appendf(nil, "%d/%d/%d/%d", s.epoch, s.checkpoint, s.from, s.to)
}

func decodeStaged(b []byte) (s staged) {
	fmt.Sscanf(string(b), "%d/%d/%d/%d", &s.epoch, &s.checkpoint, &s.from, &s.to)
	return s
}

// outside is the system that the sink writes to. It checks exactly-once: what
// is committed is 0, 1, 2, … without gap or overlap.
type outside struct {
	fence     uint64
	upTo      int
	committed map[string]bool
}

func (o *outside) commit(epoch uint64, handles []*pb.SinkHandle) (violation string, err error) {
	if epoch < o.fence {
		return "", errors.New("stale epoch")
	}
	for _, h := range handles {
		s := decodeStaged(h.GetValue())
		switch {
		case o.committed[string(h.GetValue())] || s.from == s.to:
		case s.from != o.upTo:
			return fmt.Sprintf("commit of %+v at %d", s, o.upTo), nil
		default:
			o.upTo = s.to
			o.committed[string(h.GetValue())] = true
		}
	}
	return "", nil
}

func testGraph(parallelism uint32, bounded bool) *pb.JobGraph {
	return &pb.JobGraph{
		Name: "count", PlanHash: []byte("hash"),
		Config: &pb.JobConfig{CheckpointIntervalMs: 1000, CheckpointTimeoutMs: 60_000, RetainedCheckpoints: 1},
		Vertices: []*pb.Vertex{
			{Id: "v1", Name: "source", Parallelism: 1, MaxParallelism: 128, Operators: []*pb.Operator{{Uid: "src", Name: "src", Source: true, Bounded: bounded}}},
			{Id: "v2", Name: "sum", Parallelism: parallelism, MaxParallelism: 128,
				Operators: []*pb.Operator{{Uid: "sum", Name: "sum"}, {Uid: "out", Name: "out", TransactionalSink: true}},
				Inputs:    []*pb.Input{{FromVertex: "v1", Ship: pb.Ship_SHIP_HASH}}},
		},
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 7))
	w := &world{
		t: t, seed: seed, r: r, now: time.UnixMilli(1_700_000_000_000),
		tms: map[string]int{"a": 2, "b": 2}, workers: map[string]*process{}, bucket: map[string]*pb.Manifest{},
		sink: outside{committed: map[string]bool{}}, invariants: newInvariants(),
	}
	bounded := r.IntN(3) == 0
	if bounded {
		w.end = 50 + r.IntN(200)
	}
	w.record = &pb.JobRecord{Submitted: &pb.JobSubmitted{JobId: "job", Graph: testGraph(uint32(1+r.IntN(4)), bounded)}}
	w.record.Submitted.Graph.Config.TolerableCheckpointFailures = uint32(seed % 3)
	w.record.Submitted.Graph.Config.Restart = &pb.RestartStrategy{Kind: []pb.RestartStrategy_Kind{exponential, fixed, rate}[seed/3%3]}
	if seed%16 == 5 {
		w.record.Submitted.Graph.Config.Restart.Kind = never
	}
	w.lead(Submitted{})
	return w
}

// lead makes a master of the journal's fold, as a new leader does.
func (w *world) lead(first Event) {
	w.leader++
	m, err := New(Config{Record: w.record})
	if err != nil {
		w.fatalf("new master: %v", err)
	}
	w.m = m
	w.tell(first)
}

// after queues something for this leader.
func (w *world) after(d time.Duration, do func()) { w.at(w.now.Add(d), w.leader, do) }

func (w *world) at(at time.Time, leader int, do func()) {
	w.order++
	w.queue = append(w.queue, timed{at, w.order, leader, do})
}

func (w *world) some(most int) time.Duration {
	return time.Duration(1+w.r.IntN(most)) * time.Millisecond
}

// chance is true once in n, unless the world is calm.
func (w *world) chance(n int) bool { return !w.calm && w.r.IntN(n) == 0 }

func (w *world) tell(ev Event) {
	w.note("> ", ev)
	w.sawEvent(w, ev)
	acts := w.m.Step(ev, w.now)
	for _, a := range acts {
		w.note("    < ", a)
		w.sawAction(w, a)
		w.do(a)
	}
	w.sawState(w, w.m.State())
	if w.m.phase == phaseRunning && w.m.rescale.step == rescaleNone && len(w.held) > len(w.slots) {
		w.fatalf("invariant 13: runs in slots of %v, still holds %v", w.slots, w.held)
	}
	if w.r.IntN(20) == 0 {
		if st := w.m.Status(w.now); st.State != w.m.State() || len(st.Vertices) != 2 || st.Epoch != w.m.epoch {
			w.fatalf("status %+v", st)
		}
	}
}

// entry is a line of the log, formatted only if somebody reads it.
type entry struct {
	at   time.Time
	mark string
	what any
}

func (e entry) String() string {
	s := fmt.Sprintf("%T %+v", e.what, e.what)
	return e.at.Format("04:05.000 ") + e.mark + s[:min(len(s), 200)]
}

func (w *world) note(mark string, what any) { w.log = append(w.log, entry{w.now, mark, what}) }

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	var tail strings.Builder
	for _, e := range w.log[max(0, len(w.log)-60):] {
		fmt.Fprintln(&tail, e)
	}
	w.t.Fatalf("seed %d: %s\n%s", w.seed, fmt.Sprintf(format, args...), tail.String())
}

// advance runs what is due next; false when nothing ever is.
func (w *world) advance() bool {
	i := -1
	for j, q := range w.queue {
		if i < 0 || q.at.Before(w.queue[i].at) || q.at.Equal(w.queue[i].at) && q.order < w.queue[i].order {
			i = j
		}
	}
	deadline, ok := w.m.Deadline()
	if i < 0 && !ok {
		return false
	}
	if i < 0 || ok && deadline.Before(w.queue[i].at) {
		if deadline.After(w.now) {
			w.now, w.idle = deadline, 0
		}
		if w.idle++; w.idle > 100 {
			w.fatalf("ticks do nothing: %v is always due in phase %s, rescale %v", deadline, w.m.phase, w.m.rescale.step)
		}
		w.tell(Tick{})
		return true
	}
	q := w.queue[i]
	w.queue = slices.Delete(w.queue, i, i+1)
	if q.at.After(w.now) {
		w.now = q.at
	}
	if q.leader == 0 || q.leader == w.leader {
		q.do()
	}
	return true
}

func (w *world) do(a Action) {
	switch a := a.(type) {
	case RequestSlots:
		w.want, w.held, w.resize = a.N, nil, nil
		w.after(w.some(5), w.grant)
	case ReleaseSlots:
		w.want, w.held, w.resize = 0, nil, nil
	case ResizeSlots:
		w.resize = &a
		w.after(w.some(5), w.grant)
	case KeepSlots:
		for tm, n := range w.perTM(a.Slots) {
			if n > w.perTM(w.held)[tm] {
				w.fatalf("keeps %v, holds %v", a.Slots, w.held)
			}
		}
		w.held, w.resize = slices.Clone(a.Slots), nil
	case StartWorker:
		w.start(a)
	case StopWorker:
		if p := w.workers[a.Worker]; p != nil {
			w.kill(p)
		}
	case SendWorker:
		if p := w.workers[a.Worker]; p != nil && !p.dead {
			w.at(w.linkTime(p, 3), 0, func() { w.command(p, a.Command) })
		}
	case Journal:
		w.append(a)
	case WriteManifest:
		fails := w.chance(30)
		if !fails || w.chance(2) {
			w.bucket[a.Key] = a.Manifest
		}
		w.after(w.some(30), func() {
			if fails {
				w.tell(ManifestWritten{Token: a.Token, Err: errors.New("bucket is down")})
				return
			}
			w.tell(ManifestWritten{Token: a.Token})
		})
	case ReadManifest:
		fails := w.chance(10)
		w.after(w.some(10), func() {
			if fails {
				w.tell(ManifestRead{Token: a.Token, Err: errors.New("bucket is down")})
				return
			}
			m := w.bucket[a.Key]
			if m == nil {
				w.fatalf("invariant 10: manifest %s is gone", a.Key)
			}
			w.tell(ManifestRead{Token: a.Token, Manifest: m})
		})
	case DeleteObjects:
		for _, key := range a.Keys {
			delete(w.bucket, key)
		}
	}
}

// linkTime is when what is sent now arrives: after what was sent before.
func (w *world) linkTime(p *process, most int) time.Time {
	at := w.now.Add(w.some(most))
	if !at.After(p.linkFree) {
		at = p.linkFree.Add(time.Microsecond)
	}
	p.linkFree = at
	return at
}

func (w *world) perTM(slots []string) map[string]int {
	_, count := perTaskManager(slots)
	return count
}

// grantResize gives a job that runs other slots, of those that it holds first.
func (w *world) grantResize(total int) {
	a := w.resize
	if a.N > total {
		w.tell(SlotsShort{Free: total - len(w.held), TaskManagers: len(w.tms)})
		return
	}
	w.resize = nil
	var free []string
	for _, tm := range []string{"a", "b"} {
		for range w.tms[tm] - w.perTM(w.held)[tm] {
			free = append(free, tm)
		}
	}
	if a.N > len(w.held) {
		w.r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
		w.held = append(slices.Clone(w.held), free[:a.N-len(w.held)]...)
	}
	slots := slices.Clone(w.held)
	w.r.Shuffle(len(slots), func(i, j int) { slots[i], slots[j] = slots[j], slots[i] })
	slots = slots[:a.N]
	slices.Sort(slots)
	w.tell(SlotsResized{Token: a.Token, Slots: slots})
}

func (w *world) grant() {
	total := 0
	for _, n := range w.tms {
		total += n
	}
	if w.resize != nil {
		w.grantResize(total)
		return
	}
	if w.want == 0 || w.want > total {
		if w.want > 0 {
			w.tell(SlotsShort{Free: total, TaskManagers: len(w.tms)})
		}
		return
	}
	var slots []string
	for _, tm := range []string{"a", "b", "c"} {
		for range w.tms[tm] {
			slots = append(slots, tm)
		}
	}
	// Spread: every other slot first.
	if w.r.IntN(2) == 0 {
		slices.Reverse(slots)
	}
	slots = slots[:w.want]
	slices.Sort(slots)
	w.want, w.held = 0, slices.Clone(slots)
	w.tell(SlotsGranted{Slots: slots})
}

func (w *world) start(a StartWorker) {
	for _, p := range w.sorted() {
		if p.tm == a.TaskManager && !p.dead {
			w.kill(p)
		}
	}
	p := &process{id: a.Worker, tm: a.TaskManager}
	w.workers[p.id] = p
	if w.tms[p.tm] == 0 || w.chance(40) {
		w.kill(p)
		return
	}
	if w.chance(150) {
		return // hangs
	}
	w.at(w.linkTime(p, 40), w.leader, func() {
		if !p.dead {
			w.tell(WorkerStarted{Worker: p.id, DataAddress: "addr-" + p.id, PID: 1})
		}
	})
}

func (w *world) sorted() []*process {
	var ps []*process
	for _, p := range w.workers {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b *process) int { return strings.Compare(a.id, b.id) })
	return ps
}

// kill ends a process; its parent says so.
func (w *world) kill(p *process) {
	if p.dead {
		return
	}
	p.dead = true
	w.at(w.linkTime(p, 5), w.leader, func() {
		w.tell(WorkerExited{Worker: p.id, Exit: &pb.WorkerExited{WorkerId: p.id, Signal: "killed"}})
	})
}

// append journals in order. An error means that the record is not there.
func (w *world) append(a Journal) {
	w.journal = append(w.journal, journalled{a.Token, a.Record})
	w.after(w.some(20), func() {
		// Records are answered in order, whatever the delays.
		j := w.journal[0]
		w.journal = w.journal[1:]
		if w.chance(25) {
			w.tell(Journaled{Token: j.token, Err: errors.New("bucket is down")})
			return
		}
		w.fold(j.record)
		w.tell(Journaled{Token: j.token})
	})
}

func (w *world) fold(r *pb.JournalRecord) {
	w.sawRecord(w, r)
	switch b := r.GetBody().(type) {
	case *pb.JournalRecord_JobAttempt:
		if a := b.JobAttempt; a.GetCause() != nil {
			w.record.Failures = append(w.record.Failures, &pb.JobFailure{Epoch: w.record.Epoch, AtMs: a.GetFailedMs(), Error: a.GetCause(), Uncounted: a.GetUncounted()})
		}
		w.record.Epoch = b.JobAttempt.GetEpoch()
		if p := b.JobAttempt.GetParallelism(); len(p) > 0 {
			w.record.Parallelism = p
		}
	case *pb.JournalRecord_CheckpointDone:
		w.record.Latest = proto.CloneOf(b.CheckpointDone)
		if !b.CheckpointDone.GetSavepoint() {
			w.record.Retained = []*pb.CheckpointDone{w.record.Latest}
		}
	case *pb.JournalRecord_JobDraining:
		w.record.Drain = b.JobDraining.GetPositions()
	case *pb.JournalRecord_JobStopping:
		w.record.Stopping = b.JobStopping
	case *pb.JournalRecord_JobEnded:
		w.record.Ended = b.JobEnded
	}
}

// newLeader loses the master. Of what was being journalled a first part is
// there. Task managers end the workers of a leader that they lost.
func (w *world) newLeader() {
	if w.record.GetEnded() != nil {
		return
	}
	w.note("leader is lost: ", w.leader)
	for _, j := range w.journal[:w.r.IntN(len(w.journal)+1)] {
		w.fold(j.record)
	}
	w.journal = nil
	for _, p := range w.workers {
		p.dead = true
	}
	w.workers = map[string]*process{}
	w.want, w.held, w.resize = 0, nil, nil
	w.sawLeader(w.record)
	if w.record.GetEnded() == nil {
		w.lead(Recovered{})
	}
}

func (w *world) loseTaskManager(tm string) {
	if w.tms[tm] == 0 {
		return
	}
	slots := w.tms[tm]
	delete(w.tms, tm)
	w.held = slices.DeleteFunc(w.held, func(held string) bool { return held == tm })
	w.resize = nil // as the pool does
	for _, p := range w.sorted() {
		if p.tm == tm {
			p.dead = true
			delete(w.workers, p.id)
		}
	}
	w.tell(TaskManagerLost{TaskManager: tm, Reason: "link broke"})
	w.at(w.now.Add(w.some(3000)), 0, func() {
		w.tms[tm] = slots
		w.grant()
	})
}

// report sends something up the link of a worker.
func (w *world) report(p *process, epoch uint64, r *pb.WorkerReport) {
	r.Epoch = epoch
	w.at(w.linkTime(p, 10), w.leader, func() {
		if w.workers[p.id] == p && !(p.dead && w.r.IntN(2) == 0) {
			w.tell(WorkerReported{Worker: p.id, Report: r})
		}
	})
}

// command is obeyed by a worker as the runtime does.
func (w *world) command(p *process, c *pb.WorkerCommand) {
	if p.dead || c.GetEpoch() < p.epoch {
		return
	}
	if w.chance(400) {
		w.kill(p)
		return
	}
	e := c.GetEpoch()
	switch b := c.GetBody().(type) {
	case *pb.WorkerCommand_Deploy:
		*p = process{id: p.id, tm: p.tm, linkFree: p.linkFree, epoch: e, deployed: true, first: b.Deploy.GetSlotWorker()[0] == b.Deploy.GetSelf()}
		p.source = slices.Contains(b.Deploy.GetSlotWorker()[:b.Deploy.GetGraph().GetVertices()[0].GetParallelism()], b.Deploy.GetSelf())
		w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Ready{Ready: &pb.TasksReady{}}})
	case *pb.WorkerCommand_Cancel, *pb.WorkerCommand_Finish:
		p.epoch, p.deployed, p.running = e, false, false
		if !w.chance(60) {
			w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Ended{Ended: &pb.TasksEnded{}}})
		}
	default:
		if p.deployed && (c.GetDrainTo() != nil || !w.chance(600)) {
			w.task(p, e, c)
		}
	}
}

// task is what the tasks of an attempt do at a command.
func (w *world) task(p *process, e uint64, c *pb.WorkerCommand) {
	switch b := c.GetBody().(type) {
	case *pb.WorkerCommand_Enumerate:
		answer := &pb.Enumerated{Uid: "src"}
		if b.Enumerate.GetAgain() {
			if answer.Splits = []*pb.SplitAssignment{{Uid: "src", Splits: followers(b.Enumerate.GetKnown())}}; w.chance(10) {
				answer.Error = &pb.Error{Code: "source-failed", Message: "host is away"}
			}
		} else {
			splits := linesOf(b.Enumerate.GetKnown())
			if len(splits) == 0 {
				splits = lines{{Id: "s0", Position: []byte("0")}, {Id: "t1"}}
			}
			answer.Splits = []*pb.SplitAssignment{{Uid: "src", Splits: splits}}
		}
		w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Enumerated{Enumerated: answer}})
	case *pb.WorkerCommand_Recover:
		w.recoverSink(p, e, b.Recover)
	case *pb.WorkerCommand_Commit:
		w.commitSink(p, e, b.Commit)
	case *pb.WorkerCommand_Start:
		p.running = true
		for _, s := range b.Start.GetSplits() {
			p.pos, _ = strconv.Atoi(string(s.GetSplits()[0].GetPosition()))
			p.from = p.pos
			for _, l := range s.GetSplits()[1:] {
				p.lines = append(p.lines, proto.CloneOf(l))
			}
		}
		for _, d := range b.Start.GetDrain() {
			p.drainTo, _ = strconv.Atoi(string(d.GetPosition()))
		}
		w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Running{Running: &pb.TasksRunning{}}})
		w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Held{Held: &pb.OutputHeld{}}})
		w.work(p, e)
	case *pb.WorkerCommand_Assign:
		p.lines.follow(b.Assign)
	case *pb.WorkerCommand_Trigger:
		w.barrier(p, e, b.Trigger)
	case *pb.WorkerCommand_Completed:
		p.prepared = slices.DeleteFunc(p.prepared, func(s staged) bool { return s.checkpoint <= b.Completed.GetCheckpointId() })
	case *pb.WorkerCommand_FindTips:
		w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Tips{Tips: &pb.TipsFound{
			Uid: "src", Tips: []*pb.DrainPosition{{Uid: "src", Split: "s0", Position: fmt.Appendf(nil, "%d", p.pos+w.r.IntN(50))}},
		}}})
	case *pb.WorkerCommand_DrainTo:
		for _, d := range b.DrainTo.GetPositions() {
			p.drainTo, _ = strconv.Atoi(string(d.GetPosition()))
		}
		w.work(p, e)
	}
}

// work moves the source on.
func (w *world) work(p *process, epoch uint64) {
	if p.dead || !p.running || p.epoch != epoch || p.stopped {
		return
	}
	end := w.end
	if p.drainTo > 0 && (end == 0 || p.drainTo < end) {
		end = p.drainTo
	}
	if !p.first && p.source && end > 0 && !p.exhausted {
		p.exhausted = true // it has no split
		w.report(p, epoch, &pb.WorkerReport{Body: &pb.WorkerReport_Exhausted{Exhausted: &pb.SourcesExhausted{}}})
	}
	if p.first && !p.exhausted {
		p.pos += w.r.IntN(8)
		if end > 0 && p.pos >= end {
			p.pos, p.exhausted = max(end, p.from), true
			w.report(p, epoch, &pb.WorkerReport{Body: &pb.WorkerReport_Exhausted{Exhausted: &pb.SourcesExhausted{}}})
		}
		if w.r.IntN(3) == 0 {
			w.report(p, epoch, &pb.WorkerReport{Body: &pb.WorkerReport_Held{Held: &pb.OutputHeld{}}})
		}
	}
	if w.chance(200) {
		code := "user-function-failed"
		if w.r.IntN(4) == 0 {
			code = "task-hung"
		}
		subject := ""
		if w.r.IntN(2) == 0 {
			code, subject = "shard-closed", fmt.Sprint(w.r.IntN(3))
		}
		w.report(p, epoch, &pb.WorkerReport{Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{
			VertexId: "v1", Error: &pb.Error{Code: code, Message: "boom", Subject: subject},
		}}})
	}
	w.at(w.now.Add(w.some(120)), 0, func() { w.work(p, epoch) })
}

func (w *world) barrier(p *process, e uint64, t *pb.TriggerCheckpoint) {
	ack := &pb.CheckpointAck{CheckpointId: t.GetCheckpointId()}
	if p.first {
		if !p.exhausted && !p.stopped {
			p.pos += w.r.IntN(5)
			if w.end > 0 {
				p.pos = min(p.pos, w.end)
			}
			if p.drainTo > 0 {
				p.pos = max(min(p.pos, p.drainTo), p.from)
			}
		}
		p.stopped = p.stopped || t.GetTerminal() || t.GetHalt()
		p.prepared = append(p.prepared, staged{e, t.GetCheckpointId(), p.from, p.pos})
		p.from = p.pos
		split, _ := proto.Marshal(&pb.Split{Id: "s0", Position: fmt.Appendf(nil, "%d", p.pos)})
		src := &pb.OperatorSnapshot{Uid: "src", Entries: []*pb.OperatorEntry{{Kind: checkpoint.EntrySplit, Key: "s0", Value: split}}}
		if !p.stopped || t.GetHalt() {
			p.lines.end(w.r)
		}
		src.Entries = append(src.Entries, p.lines.entries()...)
		ack.Operators = append(ack.Operators, src)
		out := &pb.OperatorSnapshot{Uid: "out"}
		for _, s := range p.prepared {
			out.Entries = append(out.Entries, &pb.OperatorEntry{Kind: checkpoint.EntryHandle, Value: s.encode()})
		}
		ack.Operators = append(ack.Operators, out)
	}
	rare := 1
	if t.GetHalt() {
		rare = 8
	}
	switch {
	case w.chance(100 / rare):
		w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Declined{Declined: &pb.CheckpointDeclined{
			CheckpointId: t.GetCheckpointId(), Error: &pb.Error{Code: "checkpoint-declined", Message: "no"},
		}}})
	case w.chance(200 / rare): // never
	default:
		w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Ack{Ack: ack}})
	}
}

func (w *world) recoverSink(p *process, e uint64, r *pb.RecoverSink) {
	if e < w.sink.fence {
		return
	}
	w.sink.fence = e
	done := &pb.SinkCommitted{Uid: r.GetUid(), CheckpointId: r.GetCheckpointId(), Recovered: true}
	if w.chance(20) {
		done.Error = &pb.Error{Code: "sink-failed", Message: "host is away"}
	} else if bad, err := w.sink.commit(e, r.GetHandles()); bad != "" {
		w.fatalf("exactly-once: recovery of checkpoint %d: %s", r.GetCheckpointId(), bad)
	} else if err != nil {
		done.Error = &pb.Error{Code: "stale-epoch", Message: err.Error()}
	}
	w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Committed{Committed: done}})
}

// commitSink reaches the outside late, even if the worker dies meanwhile.
func (w *world) commitSink(p *process, e uint64, c *pb.CommitSink) {
	w.at(w.now.Add(w.some(40)), 0, func() {
		done := &pb.SinkCommitted{Uid: c.GetUid(), CheckpointId: c.GetCheckpointId()}
		if w.chance(20) {
			done.Error = &pb.Error{Code: "sink-failed", Message: "host is away"}
		} else if bad, err := w.sink.commit(e, c.GetHandles()); bad != "" {
			w.fatalf("exactly-once: commit of checkpoint %d: %s", c.GetCheckpointId(), bad)
		} else if err != nil {
			return // a zombie: nobody hears it
		}
		if !p.dead && p.epoch == e && !w.chance(300) {
			w.report(p, e, &pb.WorkerReport{Body: &pb.WorkerReport_Committed{Committed: done}})
		}
	})
}
