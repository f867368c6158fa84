package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/journal"
	"github.com/millrace/millrace/jobmanager/slots"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// maxEvents bounds the events that wait for a driver.
const maxEvents = 1 << 14

// Job is one job of the cluster with its driver.
type Job struct {
	ID string
	// Submitted is how the job came in. It is not changed.
	Submitted *pb.JobSubmitted

	d      *Dispatcher
	master *job.Master // the driver's
	events *queue[job.Event]
	// records are the journal records to append, in order.
	records *queue[job.Journal]
	asks    chan chan job.Status
	tick    chan struct{}
	// done is closed once the driver has ended.
	done chan struct{}
	log  *recoveries

	mu struct {
		sync.Mutex
		lastRequest job.RequestID
		answers     map[job.RequestID]chan answer
		// final is the status after done.
		final job.Status
	}
}

type answer struct {
	result job.Result
	err    error
}

func newJob(d *Dispatcher, r *pb.JobRecord) *Job {
	j := &Job{
		ID: r.GetSubmitted().GetJobId(), Submitted: r.GetSubmitted(), d: d,
		events: newQueue[job.Event](maxEvents), records: newQueue[job.Journal](maxEvents),
		asks: make(chan chan job.Status), tick: make(chan struct{}, 1),
		done: make(chan struct{}), log: recoveriesOf(r),
	}
	j.mu.answers = map[job.RequestID]chan answer{}
	return j
}

// endedJob is a job that ended under an earlier leader: of its life, only what
// the journal says is known.
func endedJob(d *Dispatcher, r *pb.JobRecord) *Job {
	j := newJob(d, r)
	state, err := job.ParseState(r.GetEnded().GetState())
	if err != nil {
		state = job.Failed
	}
	s := job.Status{
		State: state, Epoch: r.GetEpoch(), Restarts: r.GetRestarts(), Rescalings: r.GetRescales(),
		Graph: job.WithParallelism(r.GetSubmitted().GetGraph(), r.GetParallelism()), Cause: r.GetEnded().GetError(),
		Started:  time.UnixMilli(r.GetSubmitted().GetSubmittedMs()),
		Ended:    time.UnixMilli(r.GetEnded().GetEndedMs()),
		Stopping: r.GetStopping().GetHow(), Exceptions: job.Failures(r),
	}
	if s.Cause != nil {
		s.Exceptions = slices.Insert(s.Exceptions, 0, job.Exception{At: s.Ended, Epoch: s.Epoch, Error: s.Cause})
	}
	s.Since[job.Created], s.Since[state] = s.Started, s.Ended
	j.mu.final = s
	close(j.done)
	return j
}

// newMaster makes the master of a job's record.
func (d *Dispatcher) newMaster(r *pb.JobRecord) (*job.Master, error) {
	floor := uint64(0)
	d.journal.View(func(fold *pb.JournalSnapshot) { floor = journal.EpochOf(fold, journal.LineageOf(r)) })
	if s := r.GetStopping(); s != nil {
		dir, err := d.SavepointDirectory(s.GetSavepointDirectory())
		if err != nil {
			// Journalled by a version that took what was given. The job must stop
			// all the same, and its savepoint not lie where something else does.
			d.cfg.Log.Warn("savepoint directory refused, the default is taken", "job", s.GetJobId(), "directory", s.GetSavepointDirectory(), "error", err)
		}
		s.SavepointDirectory = dir
	}
	return job.New(job.Config{Record: r, EpochFloor: floor, SlotWait: d.cfg.SlotWait})
}

// launch registers a job and starts its driver.
func (d *Dispatcher) launch(ctx context.Context, r *pb.JobRecord, master *job.Master, first job.Event) error {
	j := newJob(d, r)
	j.master = master
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.ctx == nil {
		return api.Errorf(api.ShuttingDown, "job manager is shutting down")
	}
	d.mu.jobs[j.ID] = j
	d.running.Go(func() { j.run(ctx, first) })
	return nil
}

// takeOver goes on with a job of the journal. One that this version cannot
// drive ends FAILED; the others go on.
func (d *Dispatcher) takeOver(ctx context.Context, r *pb.JobRecord) error {
	master, err := d.newMaster(r)
	if err == nil {
		return d.launch(ctx, r, master, job.Recovered{})
	}
	d.cfg.Log.Error("job cannot be taken over", "job", r.GetSubmitted().GetJobId(), "error", err)
	r.Ended = &pb.JobEnded{JobId: r.GetSubmitted().GetJobId(), State: job.Failed.String(), Error: asError(err).Proto(), EndedMs: d.Now().UnixMilli()}
	if err := d.journal.Append(ctx, &pb.JournalRecord{Body: &pb.JournalRecord_JobEnded{JobEnded: r.GetEnded()}}); err != nil {
		return err
	}
	d.addEnded(r)
	return nil
}

func (d *Dispatcher) addEnded(r *pb.JobRecord) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.jobs[r.GetSubmitted().GetJobId()] = endedJob(d, r)
}

// run is the driver. It ends when the job has, or ctx.
func (j *Job) run(ctx context.Context, first job.Event) {
	var beside sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	beside.Go(func() { j.appendRecords(ctx) })
	alarm := alarm{clock: j.d.cfg.Clock, ring: j.tick}
	j.step(ctx, &beside, first)
	for !j.master.State().Terminal() && ctx.Err() == nil {
		alarm.set(j.master.Deadline())
		select {
		case <-ctx.Done():
		case <-j.events.ready:
			for _, ev := range j.events.take() {
				j.step(ctx, &beside, ev)
			}
		case <-j.tick:
			alarm.rang()
			j.step(ctx, &beside, job.Tick{})
		case reply := <-j.asks:
			reply <- j.master.Status(j.d.Now())
		}
	}
	alarm.stop()
	cancel()
	beside.Wait()
	j.end()
}

// end publishes the final status and answers whoever still waits.
func (j *Job) end() {
	if j.master.State().Terminal() {
		j.d.changeSlots(func(p *slots.Pool) []slots.Grant { return p.Release(j.ID) })
	}
	j.mu.Lock()
	j.mu.final = j.master.Status(j.d.Now())
	close(j.done)
	waiting := j.mu.answers
	j.mu.answers = nil
	j.mu.Unlock()
	for _, w := range waiting {
		w <- answer{err: j.over()}
	}
}

// over is why a request cannot be answered any more.
func (j *Job) over() error {
	j.mu.Lock()
	state := j.mu.final.State
	j.mu.Unlock()
	if !state.Terminal() {
		return api.Errorf(api.ShuttingDown, "job manager is shutting down")
	}
	return api.Errorf(api.JobEnded, "job %s (%s) is %s", j.ID, j.Submitted.GetName(), state)
}

func (j *Job) step(ctx context.Context, beside *sync.WaitGroup, ev job.Event) {
	for _, a := range j.master.Step(ev, j.d.Now()) {
		j.act(ctx, beside, a)
	}
}

// tell queues an event whose number the job itself bounds.
func (j *Job) tell(ev job.Event) {
	select {
	case <-j.done:
	default:
		j.events.put(ev)
	}
}

// Status describes the job as of now.
func (j *Job) Status(ctx context.Context) (job.Status, error) {
	reply := make(chan job.Status, 1)
	select {
	case j.asks <- reply:
		return <-reply, nil
	case <-j.done:
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.mu.final, nil
	case <-ctx.Done():
		return job.Status{}, api.Errorf(api.TimedOut, "job %s: status: %w", j.ID, ctx.Err())
	}
}

// Done is closed when the job has ended, or its driver with the job manager.
func (j *Job) Done() <-chan struct{} { return j.done }

// Recoveries lists the job's recoveries, oldest first; of those under earlier
// leaders only when and why is known.
func (j *Job) Recoveries() []Recovery { return j.log.list() }

// Cancel ends the job without a savepoint. It returns when that is durable.
func (j *Job) Cancel(ctx context.Context) error {
	_, err := j.request(ctx, func(id job.RequestID) job.Event { return job.CancelRequested{Request: id} })
	return err
}

// Stop takes a savepoint and ends the job; with drain, event time runs out
// first. It returns when the job has ended.
func (j *Job) Stop(ctx context.Context, drain bool, directory string) (job.Result, error) {
	return j.request(ctx, func(id job.RequestID) job.Event {
		return job.StopRequested{Request: id, Drain: drain, Directory: directory}
	})
}

// Savepoint takes a savepoint of a job that goes on.
func (j *Job) Savepoint(ctx context.Context, directory string) (job.Result, error) {
	return j.request(ctx, func(id job.RequestID) job.Event {
		return job.SavepointRequested{Request: id, Directory: directory}
	})
}

// Checkpoint takes a checkpoint now; a full one shares nothing with others.
func (j *Job) Checkpoint(ctx context.Context, full bool) (job.Result, error) {
	return j.request(ctx, func(id job.RequestID) job.Event { return job.CheckpointRequested{Request: id, Full: full} })
}

// Rescale gives the job another parallelism: parallelism, unless it is 0, for
// the operators that set none of their own, vertices by name or id. It returns
// when all tasks run with it, or once the job goes on without.
func (j *Job) Rescale(ctx context.Context, parallelism int, vertices map[string]int) (job.Result, error) {
	return j.request(ctx, func(id job.RequestID) job.Event {
		return job.RescaleRequested{Request: id, Parallelism: parallelism, Vertices: vertices}
	})
}

// request asks the master and waits for its answer, which the master gives
// even if nobody waits any more.
func (j *Job) request(ctx context.Context, event func(job.RequestID) job.Event) (job.Result, error) {
	wait := make(chan answer, 1)
	j.mu.Lock()
	if j.mu.answers == nil {
		j.mu.Unlock()
		return job.Result{}, j.over()
	}
	select {
	case <-j.done:
		j.mu.Unlock()
		return job.Result{}, j.over()
	default:
	}
	j.mu.lastRequest++
	id := j.mu.lastRequest
	j.mu.answers[id] = wait
	j.mu.Unlock()
	if !j.events.offer(ctx, j.done, event(id)) && ctx.Err() != nil {
		return job.Result{}, api.Errorf(api.TimedOut, "job %s: request not taken: %w", j.ID, ctx.Err())
	}
	select {
	case a := <-wait:
		if a.err != nil {
			return a.result, asError(a.err)
		}
		return a.result, nil
	case <-ctx.Done():
		return job.Result{}, api.Errorf(api.TimedOut, "job %s: no answer yet; what was asked may still happen: %w", j.ID, ctx.Err())
	}
}

func (j *Job) answer(id job.RequestID, a answer) {
	j.mu.Lock()
	wait := j.mu.answers[id]
	delete(j.mu.answers, id)
	j.mu.Unlock()
	if wait != nil {
		wait <- a
	}
}
