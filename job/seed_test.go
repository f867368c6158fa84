package job

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const seeds = 10_000

// few is how many of the seeds a short run takes.
const few = 500

// invariants holds what the master promised, by the numbers at type Master.
type invariants struct {
	epochs     []uint64 // journalled
	ready      map[string]uint64
	enumerated uint64 // epoch whose source has enumerated
	recovered  uint64 // epoch whose sink has recovered
	tasks      map[string]uint64
	done       map[uint64]*pb.CheckpointDone // journalled
	doneUnder  map[Token]bool
	committing uint64 // checkpoint that the sink was asked to commit
	committed  uint64
	lastOrder  uint64
	answers    map[RequestID]int
	requests   RequestID
	ended      bool
	final      State

	deployed map[uint64]*pb.JobGraph // by epoch
	slots    []string                // of the newest attempt
	halt     uint64                  // checkpoint that the newest attempt halts at
	haltOf   uint64                  // its epoch
	halted   map[string]bool         // workers whose tasks did
	failed   bool                    // the newest attempt did
	canceled bool
	assigned map[string]bool // splits that follow others, of the newest attempt
	followed int
	// closed counts, by shard, the attempts that ended for it and did not count,
	// as far as this leader may know; spared is how many there were.
	closed  map[string]int
	spared  int
	moved   int // rescales that came true, and were given up
	refused int
}

func newInvariants() invariants {
	return invariants{
		ready: map[string]uint64{}, tasks: map[string]uint64{}, done: map[uint64]*pb.CheckpointDone{},
		doneUnder: map[Token]bool{}, answers: map[RequestID]int{},
		deployed: map[uint64]*pb.JobGraph{}, halted: map[string]bool{}, closed: map[string]int{},
	}
}

func (v *invariants) sawLeader(r *pb.JobRecord) {
	v.closed = map[string]int{}
	for _, f := range r.GetFailures() {
		if f.GetUncounted() {
			v.closed[f.GetError().GetSubject()]++
		}
	}
	v.slots, v.halt, v.halted, v.failed, v.canceled = nil, 0, map[string]bool{}, true, false
	v.ready, v.tasks, v.doneUnder = map[string]uint64{}, map[string]uint64{}, map[Token]bool{}
	v.committing = 0
	// Requests of a lost leader are lost with it: their clients ask again.
	v.answers = map[RequestID]int{}
}

func (v *invariants) sawRecord(w *world, r *pb.JournalRecord) {
	switch b := r.GetBody().(type) {
	case *pb.JournalRecord_JobAttempt:
		if n := len(v.epochs); n > 0 && b.JobAttempt.GetEpoch() <= v.epochs[n-1] {
			w.fatalf("invariant 2: epoch %d after %d", b.JobAttempt.GetEpoch(), v.epochs[n-1])
		}
		v.epochs = append(v.epochs, b.JobAttempt.GetEpoch())
	case *pb.JournalRecord_CheckpointDone:
		if w.bucket[b.CheckpointDone.GetManifest()] == nil {
			w.fatalf("journalled checkpoint %d without its manifest", b.CheckpointDone.GetCheckpointId())
		}
		v.done[b.CheckpointDone.GetCheckpointId()] = b.CheckpointDone
	case *pb.JournalRecord_JobEnded:
		v.ended = true
	}
}

func (v *invariants) sawEvent(w *world, ev Event) {
	switch ev := ev.(type) {
	case Journaled:
		delete(v.doneUnder, ev.Token)
	case WorkerExited:
		delete(v.tasks, ev.Worker)
	case TaskManagerLost:
		for id := range v.tasks {
			if p := w.workers[id]; p == nil || p.tm == ev.TaskManager {
				delete(v.tasks, id)
			}
		}
	case WorkerReported:
		e := ev.Report.GetEpoch()
		switch r := ev.Report.GetBody().(type) {
		case *pb.WorkerReport_Ready:
			if v.tasks[ev.Worker] == e {
				v.ready[ev.Worker] = e
			}
		case *pb.WorkerReport_Enumerated:
			v.enumerated = e
		case *pb.WorkerReport_Ended:
			if v.tasks[ev.Worker] == e {
				delete(v.tasks, ev.Worker)
			}
		case *pb.WorkerReport_Committed:
			if r.Committed.GetError() == nil {
				if r.Committed.GetRecovered() {
					v.recovered = e
				} else if r.Committed.GetCheckpointId() == v.committing {
					v.committed, v.committing = v.committing, 0
				}
			}
		}
	}
}

func (v *invariants) sawAction(w *world, a Action) {
	if v.final.Terminal() {
		if _, ok := a.(Answer); !ok {
			w.fatalf("invariant 7: %T after the end", a)
		}
	}
	switch a := a.(type) {
	case SendWorker:
		v.sawCommand(w, a)
	case StopWorker:
		delete(v.tasks, a.Worker)
	case Journal:
		if a.Record.GetCheckpointDone() != nil {
			v.doneUnder[a.Token] = true
		}
		v.sawAttempt(w, a.Record.GetJobAttempt())
	case Observe:
		switch o := a.Observation.(type) {
		case AttemptFailed:
			v.failed = true
			v.sawFailure(w, o)
		case Rescaled:
			if v.moved++; o.Err != nil {
				v.moved--
				v.refused++
			}
			if o.Err == nil && (o.Epoch == 0 || w.m.graph == nil || !maps.Equal(o.To, ParallelismOf(w.m.graph))) {
				w.fatalf("rescaled: %+v, in force %v", o, ParallelismOf(w.m.graph))
			}
		}
	case KeepSlots:
		if w.m.State() == Running {
			for tm, n := range w.perTM(v.slots) {
				if w.perTM(a.Slots)[tm] < n {
					w.fatalf("invariant 13: gives back slots of %v that run: keeps %v", v.slots, a.Slots)
				}
			}
		}
	case WriteManifest:
		if !maps.Equal(ParallelismOf(a.Manifest.GetGraph()), ParallelismOf(v.deployed[a.Manifest.GetEpoch()])) {
			w.fatalf("invariant 11: manifest of epoch %d says %v", a.Manifest.GetEpoch(), a.Manifest.GetGraph())
		}
	case Answer:
		if a.Err == nil && a.Result.Parallelism != nil && !maps.Equal(a.Result.Parallelism, ParallelismOf(WithParallelism(w.record.GetSubmitted().GetGraph(), w.record.GetParallelism()))) {
			w.fatalf("invariant 11: request %d answered with %v, the journal says %v", a.Request, a.Result.Parallelism, w.record.GetParallelism())
		}
		if v.answers[a.Request]++; v.answers[a.Request] > 1 {
			w.fatalf("invariant 8: request %d answered twice", a.Request)
		}
	case DeleteObjects:
		for _, key := range a.Keys {
			if !strings.HasPrefix(key, "jobs/job/") && !strings.HasPrefix(key, "savepoints/") {
				w.fatalf("invariant 10: deletes %s", key)
			}
			for _, d := range v.done {
				if d.GetManifest() == key && (d.GetSavepoint() || key == w.record.GetLatest().GetManifest()) {
					w.fatalf("invariant 10: deletes %s, which is needed", key)
				}
			}
		}
		if len(a.Prefixes) > 0 && !w.record.GetEnded().GetNeedless() {
			w.fatalf("invariant 10: deletes %v of a job that the journal has as %v", a.Prefixes, w.record.GetEnded())
		}
	}
}

// sawFailure holds invariant 14.
func (v *invariants) sawFailure(w *world, o AttemptFailed) {
	shard := o.Exception.Error.GetSubject()
	if shard == "" {
		if o.Exception.Uncounted {
			w.fatalf("invariant 14: %v is not counted", o.Exception.Error)
		}
		return
	}
	if free := v.closed[shard] < closedMost; o.Exception.Uncounted != free || free && o.Delay < 0 {
		w.fatalf("invariant 14: failure %d of shard %s: not counted %v, restart in %v", v.closed[shard]+1, shard, o.Exception.Uncounted, o.Delay)
	}
	if o.Exception.Uncounted {
		v.closed[shard]++
		v.spared++
	}
}

// sawAttempt looks at the record of an attempt before it is in the journal.
func (v *invariants) sawAttempt(w *world, a *pb.JobAttempt) {
	if a == nil {
		return
	}
	if a.GetRescaled() && (v.failed || a.GetCause() != nil || v.halt == 0) {
		w.fatalf("invariant 12: epoch %d is no restart, the attempt before failed: %v, halted at %d", a.GetEpoch(), v.failed, v.halt)
	}
	if !a.GetRescaled() && v.halt != 0 && !v.failed {
		w.fatalf("invariant 12: epoch %d is a restart, nothing failed", a.GetEpoch())
	}
}

// sawDeploy looks at the attempt that a Deploy is part of.
func (v *invariants) sawDeploy(w *world, a SendWorker, d *pb.Deploy) {
	e := a.Command.GetEpoch()
	keeps := v.halt != 0 && v.halt == d.GetRestoreCheckpoint() && !v.failed
	if d.GetKeepState() && !keeps {
		w.fatalf("invariant 4: deploys checkpoint %d to keep state, tasks halted at %d, failed %v", d.GetRestoreCheckpoint(), v.halt, v.failed)
	}
	for id, epoch := range v.tasks {
		if epoch != e && !(keeps && v.halted[id]) {
			w.fatalf("invariant 4: deploys epoch %d while %s runs epoch %d", e, id, epoch)
		}
	}
	effective := WithParallelism(w.record.GetSubmitted().GetGraph(), w.record.GetParallelism())
	if !maps.Equal(ParallelismOf(effective), ParallelismOf(d.GetGraph())) || len(d.GetSlotWorker()) != SlotsNeeded(effective) {
		w.fatalf("invariant 11: deploys %v in %d slots, the journal says %v", ParallelismOf(d.GetGraph()), len(d.GetSlotWorker()), ParallelismOf(effective))
	}
	if !bytes.Equal(d.GetPlanHash(), w.record.GetSubmitted().GetGraph().GetPlanHash()) {
		w.fatalf("plan hash is not the submitted graph's")
	}
	var slots []string
	for _, i := range d.GetSlotWorker() {
		slots = append(slots, w.workers[d.GetWorkers()[i].GetWorkerId()].tm)
	}
	for tm, n := range w.perTM(slots) {
		if w.perTM(w.held)[tm] < n {
			w.fatalf("invariant 13: deploys to %v, holds %v", slots, w.held)
		}
	}
	v.deployed[e], v.slots = d.GetGraph(), slots
}

func (v *invariants) sawCommand(w *world, a SendWorker) {
	e := a.Command.GetEpoch()
	if !slices.Contains(v.epochs, e) {
		w.fatalf("invariant 1: epoch %d is not in the journal", e)
	}
	last := v.epochs[len(v.epochs)-1]
	switch b := a.Command.GetBody().(type) {
	case *pb.WorkerCommand_Deploy:
		v.sawDeploy(w, a, b.Deploy)
		if len(v.doneUnder) > 0 {
			w.fatalf("invariant 4: deploys while a checkpoint is being journalled")
		}
		if got, want := b.Deploy.GetRestoreCheckpoint(), w.record.GetLatest().GetCheckpointId(); got != want {
			w.fatalf("invariant 9: restores checkpoint %d, the newest is %d", got, want)
		}
		if e != last {
			w.fatalf("invariant 1: deploys epoch %d, the newest is %d", e, last)
		}
		v.tasks[a.Worker] = e
		v.committing = 0
		delete(v.halted, a.Worker)
		return
	case *pb.WorkerCommand_Start:
		for id, epoch := range v.tasks {
			if (epoch != e || v.ready[id] != e) && !v.halted[id] {
				w.fatalf("invariant 3: starts epoch %d before %s is ready", e, id)
			}
		}
		if v.enumerated != e || v.recovered != e {
			w.fatalf("invariant 3: starts epoch %d, enumerated %d, recovered %d", e, v.enumerated, v.recovered)
		}
		v.halt, v.halted, v.failed = 0, map[string]bool{}, false
		v.assigned = map[string]bool{}
	case *pb.WorkerCommand_Assign:
		v.sawFollowers(w, b.Assign)
	case *pb.WorkerCommand_Enumerate:
		if got, want := b.Enumerate.GetParallelism(), v.deployed[e].GetVertices()[0].GetParallelism(); got != want {
			w.fatalf("invariant 11: enumerates for %d subtasks, deployed %d", got, want)
		}
	case *pb.WorkerCommand_Completed:
		if v.done[b.Completed.GetCheckpointId()] == nil {
			w.fatalf("invariant 5: completed %d before the journal says so", b.Completed.GetCheckpointId())
		}
		if b.Completed.GetCheckpointId() == v.halt {
			v.halted[a.Worker] = true
		}
	case *pb.WorkerCommand_Commit:
		id := b.Commit.GetCheckpointId()
		switch {
		case v.done[id] == nil:
			w.fatalf("invariant 5: commits %d before the journal says so", id)
		case v.committing != 0 && v.committing != id:
			w.fatalf("invariant 5: commits %d while %d is not acknowledged", id, v.committing)
		case id < v.lastOrder:
			w.fatalf("invariant 5: commits %d after %d", id, v.lastOrder)
		}
		v.committing, v.lastOrder = id, id
	case *pb.WorkerCommand_Finish:
		if l := w.record.GetLatest(); !l.GetTerminal() || v.committed != l.GetCheckpointId() {
			w.fatalf("invariant 6: finishes with %v, committed %d", l, v.committed)
		}
	}
	if v.halt != 0 && e == v.haltOf {
		switch b := a.Command.GetBody().(type) {
		case *pb.WorkerCommand_Cancel, *pb.WorkerCommand_Aborted:
		case *pb.WorkerCommand_Completed, *pb.WorkerCommand_Trigger:
			if id := max(a.Command.GetCompleted().GetCheckpointId(), a.Command.GetTrigger().GetCheckpointId()); id != v.halt {
				w.fatalf("invariant 12: %T of %d after the halt %d", b, id, v.halt)
			}
		default:
			if !v.canceled {
				w.fatalf("invariant 12: %T after the halt %d", b, v.halt)
			}
		}
	}
	if t := a.Command.GetTrigger(); t.GetHalt() {
		v.halt, v.haltOf = t.GetCheckpointId(), e
	}
	if v.tasks[a.Worker] != e {
		w.fatalf("invariant 1: %T of epoch %d to %s, whose tasks are of %d", a.Command.GetBody(), e, a.Worker, v.tasks[a.Worker])
	}
}

func (v *invariants) sawState(w *world, s State) {
	if v.final.Terminal() && s != v.final {
		w.fatalf("invariant 7: %s after %s", s, v.final)
	}
	if s.Terminal() && !v.ended {
		w.fatalf("invariant 7: %s before the journal says so", s)
	}
	v.final = s
}

// request sends one and remembers that it wants an answer.
func (w *world) request(make func(RequestID) Event) {
	w.requests++
	w.answers[w.requests] = 0
	w.tell(make(w.requests))
}

func (w *world) chaos() {
	switch n := w.r.IntN(1000); {
	case n < 4:
		if ps := w.sorted(); len(ps) > 0 {
			w.kill(ps[w.r.IntN(len(ps))])
		}
	case n < 6:
		w.loseTaskManager([]string{"a", "b"}[w.r.IntN(2)])
	case n < 8:
		w.newLeader()
	case n < 14:
		w.request(func(id RequestID) Event { return SavepointRequested{Request: id} })
	case n < 18:
		w.request(func(id RequestID) Event { return CheckpointRequested{Request: id, Full: n%2 == 0} })
	case n < 19:
		w.request(func(id RequestID) Event { return StopRequested{Request: id, Drain: w.r.IntN(2) == 0} })
	case n < 20 && w.seed%4 == 0:
		v := &w.invariants
		v.canceled = true
		w.request(func(id RequestID) Event { return CancelRequested{Request: id} })
	case n >= 30 && n < 40:
		w.request(func(id RequestID) Event {
			r := RescaleRequested{Request: id}
			switch w.r.IntN(4) {
			case 0:
				r.Parallelism = 1 + w.r.IntN(4)
			case 1:
				r.Vertices = map[string]int{"source": 1 + w.r.IntN(4), "out": 1 + w.r.IntN(4)}
			default:
				r.Vertices = map[string]int{"sum": 1 + w.r.IntN(5)}
			}
			return r
		})
	case n < 30 && len(w.workers) > 0:
		// A report of another epoch, or of nobody.
		p := w.sorted()[0]
		w.tell(WorkerReported{Worker: p.id, Report: &pb.WorkerReport{Epoch: p.epoch + 1, Body: &pb.WorkerReport_Ready{Ready: &pb.TasksReady{}}}})
		w.tell(WorkerReported{Worker: "nobody", Report: &pb.WorkerReport{Epoch: p.epoch, Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{}}}})
	}
}

// heal ends all faults and drains the job; it must end within its time.
func (w *world) heal() {
	w.calm = true
	for tm, slots := range map[string]int{"a": 2, "b": 2} {
		w.tms[tm] = slots
	}
	w.grant()
	if !w.m.State().Terminal() && w.record.GetStopping() == nil {
		w.request(func(id RequestID) Event { return StopRequested{Request: id, Drain: true} })
	}
	until := w.now.Add(30 * time.Minute)
	for !w.m.State().Terminal() {
		if !w.advance() || w.now.After(until) {
			w.fatalf("liveness: the job is %s (%s, phase %s)", w.m.State(), w.m.waiting(), w.m.phase)
		}
	}
	for id, n := range w.answers {
		if n != 1 {
			w.fatalf("invariant 8: request %d has %d answers", id, n)
		}
	}
	if w.m.State() == Finished && w.record.GetLatest() != nil {
		last := w.bucket[w.record.GetLatest().GetManifest()]
		for _, h := range handlesOf(last, "out") {
			if s := decodeStaged(h.GetValue()); s.to > w.sink.upTo {
				w.fatalf("exactly-once: FINISHED with %d committed of %d", w.sink.upTo, s.to)
			}
		}
		if w.end > 0 && w.record.GetStopping() == nil && w.sink.upTo != w.end {
			w.fatalf("exactly-once: %d of %d", w.sink.upTo, w.end)
		}
	}
}

func TestMasterSeeds(t *testing.T) {
	ends, restarts, commits, leaders, moved, refused, followed, spared := map[State]int{}, 0, 0, 0, 0, 0, 0, 0
	seeds := seeds
	if testing.Short() {
		seeds = few
	}
	for seed := range uint64(seeds) {
		w := newWorld(t, seed)
		for range 250 {
			if w.m.State().Terminal() || w.record.GetEnded() != nil || !w.advance() {
				break
			}
			w.chaos()
		}
		if w.record.GetEnded() == nil || w.m.State().Terminal() || len(w.journal) > 0 {
			w.heal()
		}
		ends[w.m.State()]++
		restarts += len(w.epochs) - 1
		commits += len(w.sink.committed)
		leaders += w.leader
		moved += w.moved
		refused += w.refused
		followed += w.followed
		spared += w.spared
	}
	t.Logf("%d seeds: %v, %d restarts, %d transactions, %d leaders, %d rescales, %d given up, %d splits followed, %d failures not counted", seeds, ends, restarts, commits, leaders, moved, refused, followed, spared)
	if ends[Finished] < seeds/2 || restarts < seeds || moved < seeds/4 || refused < seeds/10 || followed < seeds/10 || spared < seeds/10 {
		t.Error("the worlds are too quiet")
	}
}
