package dispatch

import (
	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/control"
	"github.com/millrace/millrace/jobmanager/slots"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Attached implements control.Events. Workers that the task manager still runs
// belong to attempts that ended when it was lost, or when another job manager
// led: they are zombies, which would hold memory until their job came here
// again.
func (d *Dispatcher) Attached(tm control.TaskManager) {
	for _, w := range tm.GetWorkers() {
		d.cfg.Log.Info("worker of an earlier attempt stopped", "job", w.GetJobId(), "worker", w.GetWorkerId(), "task_manager", tm.GetId())
		// An error says that the task manager is lost again: it comes back here.
		_ = d.control.Send(tm.GetId(), &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StopWorker{
			StopWorker: &pb.StopWorker{WorkerId: w.GetWorkerId()}}})
	}
	d.streams.host(hostAttached{tm.Register})
	d.changeSlots(func(p *slots.Pool) []slots.Grant { return p.Join(tm.GetId(), int(tm.GetSlots())) })
}

// Detached implements control.Events.
func (d *Dispatcher) Detached(tm control.TaskManager, cause error) {
	d.streams.host(hostDetached{tm.GetId()})
	d.changeSlots(func(p *slots.Pool) []slots.Grant { p.Lose(tm.GetId()); return nil })
	for _, j := range d.Jobs() {
		j.tell(job.TaskManagerLost{TaskManager: tm.GetId(), Reason: cause.Error()})
	}
}

// Message implements control.Events.
func (d *Dispatcher) Message(tm string, m *pb.TaskManagerMessage) {
	switch b := m.GetBody().(type) {
	case *pb.TaskManagerMessage_WorkerStarted:
		w := b.WorkerStarted
		d.hand(w.GetJobId(), job.WorkerStarted{Worker: w.GetWorkerId(), DataAddress: w.GetDataAddress(), PID: w.GetPid()})
	case *pb.TaskManagerMessage_WorkerExited:
		d.explainMemory(b.WorkerExited)
		d.hand(b.WorkerExited.GetJobId(), job.WorkerExited{Worker: b.WorkerExited.GetWorkerId(), Exit: b.WorkerExited})
	case *pb.TaskManagerMessage_FromWorker:
		f := b.FromWorker
		if metrics := f.GetReport().GetMetrics(); metrics != nil {
			d.rates.Put(f.GetJobId(), tm, f.GetWorkerId(), f.GetReport().GetEpoch(), metrics, d.Now())
			return
		}
		if f.GetReport().GetCommitted() != nil {
			_ = failpoint.Hit("commit.acknowledged")
		}
		d.hand(f.GetJobId(), job.WorkerReported{Worker: f.GetWorkerId(), Report: f.GetReport()})
	case *pb.TaskManagerMessage_StreamCall:
		d.streams.call(tm, b.StreamCall)
	case *pb.TaskManagerMessage_CatalogApplied:
		d.streams.host(hostApplied{tm, b.CatalogApplied})
	}
}

// hand gives an event that a task manager decided to send to its job; it waits
// while the job's queue is full. A job that is not known has no worker that
// counts.
func (d *Dispatcher) hand(id string, ev job.Event) {
	d.mu.Lock()
	j, ctx := d.mu.jobs[id], d.mu.ctx
	d.mu.Unlock()
	if j == nil || ctx == nil {
		return
	}
	j.events.offer(ctx, j.done, ev)
}

// changeSlots changes the pool and tells the jobs what follows: grants to those
// that got all they asked for, the shortage to those that wait.
func (d *Dispatcher) changeSlots(change func(*slots.Pool) []slots.Grant) {
	type notice struct {
		job *Job
		ev  job.Event
	}
	var notices []notice
	d.mu.Lock()
	for _, g := range change(d.mu.pool) {
		j := d.mu.jobs[g.Job]
		switch {
		case j == nil:
		case g.Resize != 0:
			notices = append(notices, notice{j, job.SlotsResized{Token: job.Token(g.Resize), Slots: g.Slots}})
		default:
			notices = append(notices, notice{j, job.SlotsGranted{Slots: g.Slots}})
		}
	}
	short := job.SlotsShort{Free: d.mu.pool.Free(), TaskManagers: len(d.mu.pool.TaskManagers())}
	for _, w := range d.mu.pool.Waiting() {
		if j := d.mu.jobs[w.Job]; j != nil {
			notices = append(notices, notice{j, short})
		}
	}
	for _, id := range d.mu.pool.Resizes() {
		if j := d.mu.jobs[id]; j != nil {
			notices = append(notices, notice{j, short})
		}
	}
	close(d.mu.changed)
	d.mu.changed = make(chan struct{})
	// Queued under the lock, so that two changes reach a job in their order;
	// tell does not block.
	for _, n := range notices {
		n.job.tell(n.ev)
	}
	d.mu.Unlock()
}
