package checkpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const seeds = 10_000

// few is how many of the seeds a short run takes.
const few = 500

// world plays everything around a coordinator: workers that answer late,
// never, twice or for another epoch, a bucket and a journal that fail. It
// knows the invariants of Coordinator by number.
type world struct {
	t    *testing.T
	seed uint64
	r    *rand.Rand
	c    *Coordinator
	now  time.Time
	log  []string

	epoch   uint64
	workers []string
	running bool

	// What was seen of the checkpoint under way and of all before.
	triggered   map[ID]Trigger
	epochOf     map[ID]uint64
	workersOf   map[ID][]string
	acks        map[ID]map[string]bool
	wrote       map[ID]Write
	journal     map[ID]*pb.CheckpointDone
	answered    map[ID]bool // by the journal
	journalOK   map[ID]bool
	completed   []ID
	aborted     map[ID]bool
	committed   map[ID]bool
	lastID      ID
	lastPeriod  time.Time
	terminal    bool
	asked       map[uint64]int
	nextToken   uint64
	retained    []Write         // manifests that count, oldest first
	savepoints  map[string]bool // objects of completed savepoints
	objects     map[string]bool // that exist
	chains      map[string][]string
	failed      int // checkpoints in a row that count
	halted      bool
	halts       int // that completed
	lastAck     map[string]ID
	pendingActs []Action
	late        []Event
	merges      int
	ready       map[string]string // merged objects that a worker has yet to name
}

// list is what a bucket answers now. Others keep things there, too.
func (w *world) list(prefix string) []string {
	keys := []string{"jobs/j/notes", "jobs/j/state/readme", "jobs/j/checkpoints/1-x", "jobs/other/state/1-1-0"}
	for key := range w.objects {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	tail := w.log[max(0, len(w.log)-40):]
	w.t.Fatalf("seed %d: %s\n%s", w.seed, fmt.Sprintf(format, args...), strings.Join(tail, "\n"))
}

func newWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 1))
	w := &world{
		t: t, seed: seed, r: r, now: time.UnixMilli(1_000_000),
		triggered: map[ID]Trigger{}, epochOf: map[ID]uint64{}, workersOf: map[ID][]string{}, acks: map[ID]map[string]bool{},
		wrote: map[ID]Write{}, journal: map[ID]*pb.CheckpointDone{}, answered: map[ID]bool{}, journalOK: map[ID]bool{},
		aborted: map[ID]bool{}, committed: map[ID]bool{}, asked: map[uint64]int{}, savepoints: map[string]bool{},
		objects: map[string]bool{}, chains: map[string][]string{}, lastAck: map[string]ID{}, ready: map[string]string{},
	}
	w.c = New(Config{
		Job: "j", Lineage: "l", Graph: &pb.JobGraph{Name: "g"},
		Retained: r.IntN(3), NoPeriod: r.IntN(10) == 0, Tolerated: r.IntN(3),
	})
	return w
}

func (w *world) step(ev Event) {
	w.log = append(w.log, fmt.Sprintf("%s > %T %+v", w.now.Format("05.000"), ev, ev))
	acts := w.c.Step(ev, w.now)
	for _, a := range acts {
		w.log = append(w.log, fmt.Sprintf("%s   < %T", w.now.Format("05.000"), a))
		w.check(a)
		if abort, ok := a.(Abort); ok && abort.Err.GetCode() == "checkpoint-failed" {
			if _, ok := ev.(Acked); ok {
				// Workers here only name what they wrote and what was not
				// theirs to delete.
				w.fatalf("invariant 6: an ack was refused: %s", abort.Err.GetMessage())
			}
		}
	}
	w.pendingActs = append(w.pendingActs, acts...)
}

func (w *world) check(a Action) {
	switch a := a.(type) {
	case Trigger:
		id := ID(a.Command.GetCheckpointId())
		if id <= w.lastID {
			w.fatalf("invariant 2: id %d after %d", id, w.lastID)
		}
		if w.terminal {
			w.fatalf("invariant 8: triggered %d after the terminal one", id)
		}
		if last := w.lastID; last > 0 && !w.aborted[last] && !w.committed[last] && w.epochOf[last] == w.epoch {
			w.fatalf("invariants 1, 5: triggered %d while %d is under way", id, last)
		}
		if last := w.lastID; w.journal[last] != nil && !w.answered[last] {
			w.fatalf("invariant 1: triggered %d while %d is in the journal's hands", id, last)
		}
		if tolerated := w.c.cfg.Tolerated; tolerated > 0 && w.failed > tolerated {
			w.fatalf("invariant 11: triggered %d after %d failures, %d are tolerated", id, w.failed, tolerated)
		}
		if w.halted {
			w.fatalf("invariant 12: triggered %d after a halt", id)
		}
		w.halted = a.Command.GetHalt()
		if a.Stats.Early && w.now.Sub(w.lastPeriod) < 100*time.Millisecond {
			w.fatalf("invariant 10: %v after the one before", w.now.Sub(w.lastPeriod))
		}
		w.lastPeriod, w.lastID = w.now, id
		w.triggered[id], w.epochOf[id], w.workersOf[id] = a, w.epoch, slices.Clone(w.workers)
		w.acks[id] = map[string]bool{}
	case Write:
		if len(w.acks[a.ID]) != len(w.workersOf[a.ID]) || a.ID != w.lastID {
			w.fatalf("invariant 3: wrote %d with acks %v of %v", a.ID, w.acks[a.ID], w.workersOf[a.ID])
		}
		if len(a.Manifest.GetOperators()) != len(w.workersOf[a.ID]) {
			w.fatalf("invariant 3: manifest of %d has %d snapshots", a.ID, len(a.Manifest.GetOperators()))
		}
		if got, want := a.Manifest.GetGraph().GetName(), fmt.Sprint("g", w.epochOf[a.ID]); got != want {
			w.fatalf("manifest of %d has graph %s, its attempt's is %s", a.ID, got, want)
		}
		for _, o := range Objects(a.Manifest) {
			if !w.objects[o] {
				w.fatalf("invariant 6: manifest %d names %s, which is gone", a.ID, o)
			}
		}
		w.wrote[a.ID] = a
	case Journal:
		id := ID(a.Done.GetCheckpointId())
		if _, ok := w.wrote[id]; !ok || w.aborted[id] || w.journal[id] != nil {
			w.fatalf("invariant 1: journalled %d", id)
		}
		w.journal[id] = a.Done
	case Complete:
		id := ID(a.Done.GetCheckpointId())
		if !w.journalOK[id] || w.aborted[id] || slices.Contains(w.completed, id) {
			w.fatalf("invariant 4: completed %d", id)
		}
		if a.Live && (w.epochOf[id] != w.epoch || !w.running) {
			w.fatalf("invariant 4: %d completed as live in epoch %d", id, w.epoch)
		}
		w.completed = append(w.completed, id)
		w.failed = 0
		if a.Halt {
			w.halts++
		}
		if a.Halt != w.triggered[id].Command.GetHalt() || a.Halt != a.Stats.Halt {
			w.fatalf("checkpoint %d completed as halt: %v", id, a.Halt)
		}
		if a.Done.GetSavepoint() {
			for _, o := range Objects(a.Manifest) {
				w.savepoints[o] = true
			}
			w.savepoints[a.Done.GetManifest()] = true
		} else {
			w.retained = append(w.retained, w.wrote[id])
		}
		w.terminal = w.terminal || a.Done.GetTerminal()
	case Abort:
		if w.aborted[a.ID] || slices.Contains(w.completed, a.ID) {
			w.fatalf("invariant 1: aborted %d twice, or after it completed", a.ID)
		}
		w.aborted[a.ID] = true
		if r := w.triggered[a.ID].Command; a.Live && !r.GetSavepoint() && !r.GetTerminal() && !r.GetHalt() {
			w.failed++
		}
	case GiveUp:
		if tolerated := w.c.cfg.Tolerated; tolerated == 0 || w.failed != tolerated+1 {
			w.fatalf("invariant 11: gave up after %d failures, %d are tolerated", w.failed, tolerated)
		}
		w.failed = 0
	case Delete:
		w.checkDelete(a)
	case List:
		if a.Prefix != "jobs/j/" {
			w.fatalf("lists %s", a.Prefix)
		}
	case Answered:
		if w.asked[a.Token]++; w.asked[a.Token] != 2 {
			w.fatalf("invariant 9: answered request %d %d times", a.Token, w.asked[a.Token]-1)
		}
		if a.Err == nil && !slices.Contains(w.completed, a.ID) {
			w.fatalf("invariant 9: answered with checkpoint %d, which is not complete", a.ID)
		}
	}
}

func (w *world) checkDelete(a Delete) {
	keep := max(w.c.cfg.Retained, 1)
	if n := len(w.retained) - keep; n > 0 {
		w.retained = w.retained[n:]
	}
	for _, key := range a.Keys {
		if w.savepoints[key] {
			w.fatalf("invariant 6: deleted %s of a savepoint", key)
		}
		for _, m := range w.retained {
			if m.Key == key || slices.Contains(Objects(m.Manifest), key) {
				w.fatalf("invariants 6, 7: deleted %s, which checkpoint %d needs", key, m.ID)
			}
		}
		if epoch, ok := epochOf("j", key); ok && epoch > w.epoch || !ok && strings.HasPrefix(key, "jobs/") {
			w.fatalf("deleted %s, which is not its own", key)
		}
		delete(w.objects, key)
	}
}

// ack makes the ack of a worker as the runtime does: its chain and one new
// run, or one full run in an object of its own; or all of it inline.
func (w *world) ack(id ID, worker string) Acked {
	t := w.triggered[id].Command
	i := slices.Index(w.workersOf[id], worker)
	object := StateObject(StatePrefix("j", w.epochOf[id]), t.GetStatePrefix(), id, uint32(i))
	var runs []*pb.RunRef
	if w.r.IntN(4) == 0 {
		runs = append(runs, &pb.RunRef{Inline: []byte("x"), Length: 1})
	} else {
		w.objects[object] = true
		runs = append(runs, &pb.RunRef{Object: object})
	}
	if merged := w.ready[worker]; !t.GetFull() && merged != "" {
		delete(w.ready, worker)
		w.chains[worker] = []string{merged}
	}
	if !t.GetFull() && w.r.IntN(5) > 0 {
		for _, o := range w.chains[worker] {
			runs = append([]*pb.RunRef{{Object: o}}, runs...)
		}
	}
	if !t.GetSavepoint() {
		w.chains[worker] = nil
		for _, r := range runs {
			if r.GetObject() != "" {
				w.chains[worker] = append(w.chains[worker], r.GetObject())
			}
		}
		slices.Reverse(w.chains[worker])
		slices.Sort(w.chains[worker])
	}
	return Acked{Worker: worker, Epoch: w.epochOf[id], Ack: &pb.CheckpointAck{
		CheckpointId: uint64(id),
		Operators:    []*pb.OperatorSnapshot{{Uid: "op", Subtask: uint32(i), Runs: runs}},
		Stats:        []*pb.TaskCheckpointStats{{VertexId: "v", Subtask: uint32(i), CheckpointedBytes: 10, StateBytes: 100}},
	}}
}

// restart begins another attempt, restored from the newest completed one.
func (w *world) restart() {
	if w.running {
		w.running = false
		w.step(Stopped{})
	}
	if id := w.lastID; w.journal[id] != nil && !w.answered[id] {
		return // the master waits for the journal first
	}
	w.epoch++
	w.workers = nil
	for i := range 1 + w.r.IntN(3) {
		w.workers = append(w.workers, fmt.Sprintf("w%d-%d", w.epoch, i))
	}
	full := true
	if n := len(w.completed); n > 0 {
		last := w.completed[n-1]
		if !w.triggered[last].Command.GetSavepoint() {
			full = false
			// Survivors' chains are those of the restored manifest.
			w.chains = map[string][]string{}
			for i, o := range w.wrote[last].Manifest.GetOperators() {
				if i < len(w.workers) {
					for _, r := range o.GetRuns() {
						if r.GetObject() != "" {
							w.chains[w.workers[i]] = append(w.chains[w.workers[i]], r.GetObject())
						}
					}
				}
			}
		}
	}
	if full {
		w.chains = map[string][]string{}
	}
	clear(w.ready)
	w.running, w.failed, w.halted = true, 0, false
	w.step(Started{Epoch: w.epoch, Workers: w.workers, Subtasks: len(w.workers), Full: full, Graph: &pb.JobGraph{Name: fmt.Sprint("g", w.epoch)}})
}

// serve answers some of what the coordinator asked for.
func (w *world) serve() {
	acts := w.pendingActs
	w.pendingActs = nil
	for _, a := range acts {
		switch a := a.(type) {
		case Trigger:
			id := ID(a.Command.GetCheckpointId())
			for _, worker := range w.workers {
				switch w.r.IntN(30) {
				case 0: // never
				case 1:
					w.late = append(w.late, Declined{Worker: worker, Epoch: w.epoch, ID: id, Err: &pb.Error{Message: "no"}})
				default:
					w.late = append(w.late, ackLater{id, worker})
				}
			}
		case Write:
			var err error
			if w.r.IntN(15) == 0 {
				err = errors.New("bucket is down")
			}
			if err == nil || w.r.IntN(2) == 0 {
				w.objects[a.Key] = true // perhaps only the reply was lost
			}
			w.late = append(w.late, Written{ID: a.ID, Err: err})
			if w.r.IntN(20) == 0 {
				w.late = append(w.late, Written{ID: a.ID})
			}
		case Journal:
			var err error
			if w.r.IntN(15) == 0 {
				err = errors.New("not written")
			}
			w.late = append(w.late, Journaled{ID: ID(a.Done.GetCheckpointId()), Err: err})
		case List:
			if w.r.IntN(5) > 0 { // else it failed
				w.late = append(w.late, Listed{Keys: w.list(a.Prefix)})
			}
		case Complete:
			if a.Live {
				w.late = append(w.late, Committed{ID: ID(a.Done.GetCheckpointId())})
			}
		}
	}
}

// ackLater stands for an ack that the worker has yet to make.
type ackLater struct {
	id     ID
	worker string
}

func (ackLater) event() {}

// deliver hands over one of the answers that are under way, not always the
// oldest.
func (w *world) deliver() {
	if len(w.late) == 0 {
		w.step(Tick{})
		return
	}
	i := 0
	if w.r.IntN(3) == 0 {
		i = w.r.IntN(len(w.late))
	}
	ev := w.late[i]
	w.late = slices.Delete(w.late, i, i+1)
	switch e := ev.(type) {
	case ackLater:
		if w.epochOf[e.id] != w.epoch || w.aborted[e.id] && w.r.IntN(2) == 0 {
			return // the worker has ended these tasks
		}
		if e.id < w.lastAck[e.worker] {
			return // it takes barriers in their order
		}
		w.lastAck[e.worker] = e.id
		ack := w.ack(e.id, e.worker)
		if w.c.phase == collecting && w.c.pending.id == e.id && w.running {
			w.acks[e.id][e.worker] = true
		}
		w.step(ack)
		if w.r.IntN(10) == 0 {
			w.step(ack)
		}
		return
	case Journaled:
		w.answered[e.ID] = true
		w.journalOK[e.ID] = e.Err == nil
	case Committed:
		if w.running && w.epochOf[e.ID] == w.epoch {
			w.committed[e.ID] = true
		}
	}
	w.step(ev)
}

func (w *world) ask() {
	r := Request{Savepoint: w.r.IntN(2) == 0, Full: w.r.IntN(3) == 0}
	if r.Savepoint && w.r.IntN(2) == 0 {
		r.Directory = "elsewhere"
	}
	switch w.r.IntN(40) {
	case 0:
		r.Terminal, r.Drained = true, true
	case 1, 2, 3:
		r = Request{Halt: true}
		fallthrough
	default:
		w.nextToken++
		r.Token = w.nextToken
		w.asked[r.Token] = 1
	}
	w.step(Asked{Request: r})
}

func (w *world) run(steps int) {
	for range steps {
		w.now = w.now.Add(time.Duration(w.r.IntN(60)) * time.Millisecond)
		w.serve()
		switch n := w.r.IntN(100); {
		case n < 2 || (!w.running || w.halted && w.c.phase != collecting) && n < 30:
			w.restart()
		case n < 6:
			w.ask()
		case n < 12:
			w.step(Held{})
		case n < 14:
			w.step(Acked{Worker: "stranger", Epoch: w.epoch, Ack: &pb.CheckpointAck{CheckpointId: uint64(w.lastID)}})
		case n < 16 && len(w.workers) > 0:
			w.step(Acked{Worker: w.workers[0], Epoch: w.epoch - 1, Ack: &pb.CheckpointAck{CheckpointId: uint64(w.lastID)}})
		case n < 22 && len(w.workers) > 0:
			// A worker has merged its chain beside checkpoints. It names the object
			// later, or dies before.
			i := w.r.IntN(len(w.workers))
			w.merges++
			merged := MergedObject(StatePrefix("j", w.epoch), w.lastID, uint32(i), w.merges)
			w.objects[merged], w.ready[w.workers[i]] = true, merged
		case n < 23:
			w.now = w.now.Add(61 * time.Second)
			w.step(Tick{})
		default:
			w.deliver()
		}
		if len(w.c.kept) > w.c.cfg.Retained {
			w.fatalf("invariant 7: %d retained of %d", len(w.c.kept), w.c.cfg.Retained)
		}
	}
}

// finish heals the world: every request must be answered in the end.
func (w *world) finish() {
	if w.running {
		w.running = false
		w.step(Stopped{})
	}
	w.serve()
	for len(w.late) > 0 {
		w.deliver()
		w.serve()
	}
	for token, n := range w.asked {
		if n != 2 {
			w.fatalf("invariant 9: request %d was answered %d times", token, n-1)
		}
	}
}

func TestCoordinatorSeeds(t *testing.T) {
	completed, aborted, triggered, halts := 0, 0, 0, 0
	seeds := seeds
	if testing.Short() {
		seeds = few
	}
	for seed := range uint64(seeds) {
		w := newWorld(t, seed)
		w.run(120)
		w.finish()
		completed += len(w.completed)
		aborted += len(w.aborted)
		triggered += len(w.triggered)
		halts += w.halts
	}
	t.Logf("%d seeds: %d triggered, %d completed, %d of them halts, %d aborted", seeds, triggered, completed, halts, aborted)
	if completed < seeds || aborted < seeds/2 || halts < seeds/20 {
		t.Errorf("the worlds are too quiet: %d completed, %d halts, %d aborted", completed, halts, aborted)
	}
}

func TestSameSeedSameActions(t *testing.T) {
	run := func() []string {
		w := newWorld(t, 42)
		w.run(300)
		return w.log
	}
	if a, b := run(), run(); !slices.Equal(a, b) {
		t.Error("the same events gave other actions")
	}
}
