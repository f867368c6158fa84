package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/frame"
	"github.com/millrace/millrace/internal/silence"
	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const (
	// protocolVersion is the version of the control socket spoken here.
	protocolVersion = 1
	// commandQueue is how many commands may wait for a worker.
	commandQueue = 1024
)

// worker is one worker process, from the request to start it to its burial:
//
//	starting ──hello, welcome, data address──▶ running ──▶ exited
//	    └───────────── anything else ─────────────────────────▲
//
// stop and the watch kill the process; run, the worker's one goroutine, sees
// its end and reports it. Whatever is known first is the reason.
type worker struct {
	s        *Supervisor
	target   Target
	req      *pb.StartWorker
	id, job  string
	commands chan *pb.WorkerCommand
	ctx      context.Context
	cancel   context.CancelFunc
	done     chan struct{} // closed when the end has been reported

	// pings asks the writer to send one; pongs counts the answers.
	pings  chan struct{}
	pinged uint64 // the writer's
	pongs  atomic.Uint64
	// resized: the writer is to tell the worker how many slots it has.
	resized chan struct{}
	// silence is the watch's.
	silence silence.Watch

	mu struct {
		sync.Mutex
		process   *process
		started   *pb.WorkerStarted
		slots     uint32
		former    uint32    // slots before, which count until
		settled   time.Time // then
		requested bool
		reason    *Fault
		memory    memory
		ending    bool
		kill      *time.Timer
	}
}

func newWorker(s *Supervisor, target Target, req *pb.StartWorker) *worker {
	w := &worker{s: s, target: target, req: req, id: req.GetWorkerId(), job: req.GetJobId(),
		commands: make(chan *pb.WorkerCommand, commandQueue), done: make(chan struct{}),
		pings: make(chan struct{}, 1), resized: make(chan struct{}, 1), silence: silence.Watch{Most: 2 * s.config.Watch}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.mu.slots = req.GetSlots()
	return w
}

// run takes the worker through its life.
func (w *worker) run() {
	defer w.cancel()
	p, err := w.spawn()
	if err != nil {
		w.finish(nil, err)
		return
	}
	in := frame.NewReader(p.control)
	if err := w.greet(p, in); err != nil {
		p.kill(syscall.SIGKILL)
		p.control.Close()
		<-p.dead
		w.finish(p, err)
		return
	}
	w.announce()
	stopWriter := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() { w.write(p, stopWriter) })
	w.relay(p, in)
	close(stopWriter)
	p.control.Close() // ends a writer that is blocked, and the worker itself
	writing.Wait()
	<-p.dead
	w.finish(p, nil)
}

// spawn fetches the binary and starts it.
func (w *worker) spawn() (*process, error) {
	path, err := w.s.binaries.fetch(w.ctx, w.target.Bucket, w.req.GetBinary())
	if err != nil {
		return nil, err
	}
	w.s.pruneLogs()
	p, err := w.s.exec(w.ctx, launch{
		path: path, args: w.req.GetArgs(), mode: modeWorker,
		env:   w.s.environment(w.target.URL, w.slots(), w.req.GetEnv()),
		owner: w.s.config.Owner + "/" + w.id,
		log:   logName(w.job, w.id),
	})
	if err != nil {
		return nil, faultf(CodeWorkerStartFailed, "start worker %s of job %s: %w", w.id, w.req.GetJobName(), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.process = p
	if w.mu.ending { // stop came before there was anything to kill
		p.kill(syscall.SIGKILL)
	}
	return p, nil
}

// greet does the handshake.
func (w *worker) greet(p *process, in *frame.Reader) error {
	hello, err := w.s.hello(p, in, modeWorker, fmt.Sprintf("worker %s of job %s", w.id, w.req.GetJobName()))
	if err != nil {
		return err
	}
	out := frame.NewWriter(p.control)
	slots := w.slots()
	err = out.Write(&pb.WorkerFrame{Body: &pb.WorkerFrame_Welcome{Welcome: &pb.WorkerWelcome{
		Protocol: protocolVersion, JobId: w.job, WorkerId: w.id, JobName: w.req.GetJobName(),
		ShardAddress: w.s.config.ShardAddress, Bucket: w.target.URL, MemoryBytes: w.s.budget(slots),
		DataHost: w.s.config.DataHost, Slots: slots, LocalDir: w.s.folders.folderOf(w.job),
	}}})
	if err == nil {
		err = p.control.SetReadDeadline(time.Now().Add(w.s.config.Plan))
	}
	var f pb.WorkerFrame
	if err == nil {
		err = in.Read(&f)
	}
	if err == nil && f.GetHello().GetDataAddress() == "" {
		err = errors.New("it sent something else than its data address")
	}
	if err == nil {
		err = p.control.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return faultf(CodeWorkerStartFailed, "worker %s of job %s (SDK %s) did not open its data listener: %w",
			w.id, w.req.GetJobName(), hello.GetSdkVersion(), err)
	}
	address := f.GetHello().GetDataAddress()
	if _, port, err := net.SplitHostPort(address); err == nil && w.s.config.Advertise != "" {
		address = net.JoinHostPort(w.s.config.Advertise, port)
	}
	w.mu.Lock()
	w.mu.started = &pb.WorkerStarted{JobId: w.job, WorkerId: w.id, DataAddress: address, Pid: int64(p.pid)}
	w.mu.Unlock()
	w.s.config.Log.Info("worker started", "job", w.job, "worker", w.id, "pid", p.pid, "sdk", hello.GetSdkVersion())
	return nil
}

// hello reads and checks the first frame of a process, which people know as who.
func (s *Supervisor) hello(p *process, in *frame.Reader, mode, who string) (*pb.WorkerHello, error) {
	// Whoever submits waits; a worker is started on a machine that may be busy.
	patience := s.config.Handshake
	if mode == modeWorker {
		patience = max(s.config.Handshake, s.config.Plan)
	}
	if err := p.control.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, faultf(CodeInternal, "control socket: %w", err)
	}
	var f pb.WorkerFrame
	if err := in.Read(&f); err != nil {
		how := "sent something that is no hello"
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			// It is dead, or about to be: let the message say how it ended.
			p.kill(syscall.SIGKILL)
			<-p.dead
			_, _, how = p.how()
			how += " before it said hello"
		case errors.Is(err, os.ErrDeadlineExceeded):
			how = fmt.Sprintf("did not say hello within %v", patience)
		}
		if mode == modeWorker {
			// It was planned, so it has the SDK: the next start may well go better.
			return nil, faultf(CodeWorkerStartFailed, "%s %s", who, how)
		}
		return nil, faultf(CodeBinaryWithoutSDK, "%s %s: it is not built with the SDK, or does not call sdk.Main at once", who, how)
	}
	hello := f.GetHello()
	switch {
	case hello == nil:
		return nil, faultf(CodeProtocolMismatch, "the binary did not begin with a hello: rebuild it with the SDK of this version")
	case hello.GetProtocolMin() > protocolVersion || hello.GetProtocolMax() < protocolVersion:
		return nil, faultf(CodeProtocolMismatch, "the binary (SDK %s) speaks versions %d to %d of the worker protocol, this task manager version %d: rebuild the binary, or upgrade the task manager",
			hello.GetSdkVersion(), hello.GetProtocolMin(), hello.GetProtocolMax(), protocolVersion)
	case hello.GetMode() != mode:
		return nil, faultf(CodeProtocolMismatch, "the binary was started in mode %s and says %q", mode, hello.GetMode())
	}
	return hello, nil
}

// relay passes reports up until the socket ends.
func (w *worker) relay(p *process, in *frame.Reader) {
	for {
		f := &pb.WorkerFrame{}
		if err := in.Read(f); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				w.stop(0, false, faultf(CodeProtocolMismatch, "worker %s sent something that is no frame: %w", w.id, err))
			}
			// A worker without its socket is of no use, also when it lives on.
			p.kill(syscall.SIGKILL)
			return
		}
		if f.GetPong() != nil {
			w.pongs.Add(1)
			continue
		}
		if report := f.GetReport(); report != nil {
			w.s.config.Up(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_FromWorker{
				FromWorker: &pb.FromWorker{JobId: w.job, WorkerId: w.id, Report: report}}})
		}
	}
}

// write passes commands and pings down until stop.
func (w *worker) write(p *process, stop <-chan struct{}) {
	out := frame.NewWriter(p.control)
	for {
		var f *pb.WorkerFrame
		select {
		case c := <-w.commands:
			f = &pb.WorkerFrame{Body: &pb.WorkerFrame_Command{Command: c}}
		case <-w.pings:
			f = w.ping()
		case <-w.resized:
			slots := w.slots()
			f = &pb.WorkerFrame{Body: &pb.WorkerFrame_Welcome{Welcome: &pb.WorkerWelcome{
				Protocol: protocolVersion, JobId: w.job, WorkerId: w.id, Slots: slots, MemoryBytes: w.s.budget(slots)}}}
		case <-stop:
			return
		}
		if err := out.Write(f); err != nil {
			if errors.Is(err, frame.ErrTooLong) {
				w.stop(0, false, faultf(CodeInternal, "command for worker %s: %w", w.id, err))
			}
			return // relay sees the end of the socket too
		}
	}
}

// command queues a command.
func (w *worker) command(c *pb.WorkerCommand) {
	select {
	case w.commands <- c:
	default:
		w.stop(0, false, faultf(CodeWorkerUnresponsive, "worker %s of job %s lets %d commands wait: it was killed", w.id, w.req.GetJobName(), commandQueue))
	}
}

// stop ends the worker, by SIGTERM first when there is a grace. The first
// reason stays.
func (w *worker) stop(grace time.Duration, requested bool, reason *Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.ending {
		w.mu.requested, w.mu.reason = requested, reason
	}
	w.mu.ending = true
	p := w.mu.process
	switch {
	case p == nil:
		w.cancel()
	case grace <= 0:
		p.kill(syscall.SIGKILL)
	case w.mu.kill == nil:
		p.kill(syscall.SIGTERM)
		w.mu.kill = time.AfterFunc(grace, func() { w.stop(0, requested, reason) })
	}
}

// started is nil before the handshake and after the end.
func (w *worker) started() *pb.WorkerStarted {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.started
}

// announce reports that the worker runs, if it does.
func (w *worker) announce() {
	if started := w.started(); started != nil {
		w.s.config.Up(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerStarted{WorkerStarted: started}})
	}
}

// finish forgets the worker and reports its end. err is what went wrong in
// starting it.
func (w *worker) finish(p *process, err error) {
	w.mu.Lock()
	w.mu.started, w.mu.process = nil, nil
	if w.mu.kill != nil {
		w.mu.kill.Stop()
	}
	w.mu.ending = true
	w.mu.Unlock()
	w.s.forget(w)
	w.exited(p, err)
	close(w.done)
}

// exited composes the obituary.
func (w *worker) exited(p *process, err error) {
	w.mu.Lock()
	requested, reason := w.mu.requested, w.mu.reason
	w.mu.Unlock()
	x := &pb.WorkerExited{JobId: w.job, WorkerId: w.id, ExitCode: -1, Requested: requested}
	var fault *Fault
	switch {
	case reason != nil:
		fault = reason
	case requested:
	case err != nil:
		if !errors.As(err, &fault) {
			fault = faultf(CodeWorkerStartFailed, "start worker %s: %w", w.id, err)
		}
	}
	if p != nil {
		var how string
		x.ExitCode, x.Signal, how = p.how()
		if fault == nil && !requested {
			if x.Signal == "SIGKILL" {
				fault = w.killed()
			} else {
				fault = faultf(CodeWorkerExited, "worker %s of job %s %s", w.id, w.req.GetJobName(), how)
			}
		}
		if fault != nil {
			fault = fault.withTail(p.err.end())
		}
	}
	if fault != nil {
		x.Error = ToProto(fault)
	}
	w.s.config.Log.Info("worker exited", "job", w.job, "worker", w.id, "exit_code", x.ExitCode, "signal", x.Signal,
		"requested", requested, "code", x.GetError().GetCode())
	w.s.config.Up(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerExited{WorkerExited: x}})
}
