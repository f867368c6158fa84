package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	goruntime "runtime"
	"runtime/debug"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/worker"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const modulePath = "github.com/millrace/millrace"

// shakeHands introduces the binary and waits to be welcomed.
func (l *link) shakeHands(mode string) (*pb.WorkerWelcome, error) {
	if err := l.hello(mode, ""); err != nil {
		return nil, err
	}
	f, err := l.receive()
	if err != nil {
		return nil, err
	}
	w := f.GetWelcome()
	if w == nil {
		return nil, fmt.Errorf("the task manager answered the hello with %T", f.GetBody())
	}
	if w.GetProtocol() != Protocol {
		return nil, fmt.Errorf("the task manager speaks protocol %d, this binary %d: build the job with an SDK of the cluster's version", w.GetProtocol(), Protocol)
	}
	return w, nil
}

func (l *link) hello(mode, dataAddress string) error {
	return l.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Hello{Hello: &pb.WorkerHello{
		ProtocolMin: Protocol, ProtocolMax: Protocol, Mode: mode,
		SdkVersion: sdkVersion(), GoVersion: goruntime.Version(), DataAddress: dataAddress,
	}}})
}

// sdkVersion is the version of this module in the job's binary.
func sdkVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	if info.Main.Path == modulePath {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == modulePath {
			return m.Version
		}
	}
	return ""
}

// plan answers one request for the job graph.
func (l *link) plan(build func() (*graph.Graph, error)) error {
	f, err := l.receive()
	if err != nil {
		return err
	}
	req := f.GetPlanRequest()
	if req == nil {
		return fmt.Errorf("plan mode: the task manager sent %T", f.GetBody())
	}
	return l.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_PlanResult{
		PlanResult: Plan(build, int(req.GetDefaultParallelism())),
	}})
}

// Plan builds and plans a job: the answer of plan mode. A panic of build, like
// its error, is a build-failed.
func Plan(build func() (*graph.Graph, error), defaultParallelism int) (out *pb.PlanResult) {
	defer func() {
		if v := recover(); v != nil {
			out = &pb.PlanResult{Error: &pb.Error{
				Code: "build-failed", Message: fmt.Sprintf("build panicked: %v", v), Stack: string(debug.Stack()),
			}}
		}
	}()
	g, err := build()
	if err == nil {
		var plan *pb.JobGraph
		if plan, err = graph.Plan(g, defaultParallelism); err == nil {
			return &pb.PlanResult{Graph: plan}
		}
	}
	return &pb.PlanResult{Error: &pb.Error{Code: codeOf(err), Message: err.Error()}}
}

// codeOf is the error's own code, where it has one of the catalogue.
func codeOf(err error) string {
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		return coded.ErrorCode()
	}
	return "build-failed"
}

// work runs subtasks until the control socket closes, which ends the process.
func (l *link) work(welcome *pb.WorkerWelcome, build func() (*graph.Graph, error)) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	bucket, err := blob.Open(ctx, welcome.GetBucket())
	if err != nil {
		return fmt.Errorf("bucket %s: %w", welcome.GetBucket(), err)
	}
	defer func() { _ = bucket.Close() }()
	listener, err := exchange.Listen(welcome.GetJobId(), net.JoinHostPort(welcome.GetDataHost(), "0"))
	if err != nil {
		return err
	}
	if err := l.profile.start(welcome.GetWorkerId()); err != nil {
		slog.Warn("no profile of this worker", "error", err)
	}
	l.profile.onTerm()
	w, err := worker.New(worker.Config{
		Graph: build, Bucket: bucket, DataListener: listener,
		JobID: welcome.GetJobId(), JobName: welcome.GetJobName(), WorkerID: welcome.GetWorkerId(),
		ShardAddress: welcome.GetShardAddress(), LocalDir: welcome.GetLocalDir(),
		SlotMemory: int64(welcome.GetMemoryBytes() / uint64(max(welcome.GetSlots(), 1))),
		Log:        slog.Default().With("job", welcome.GetJobId(), "worker", welcome.GetWorkerId()),
		Send: func(r *pb.WorkerReport) {
			if l.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Report{Report: r}}) != nil {
				l.exit(ExitLinkLost)
			}
		},
	})
	if err != nil {
		_ = listener.Close()
		return err
	}
	room := giveHeadroom(welcome.GetMemoryBytes())
	defer room.end()
	if err := l.hello(ModeWorker, listener.Address()); err != nil {
		_ = listener.Close()
		return err
	}
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	read := make(chan error, 1)
	go func() { read <- l.commands(w, room) }()
	select {
	case err := <-ran: // the worker itself broke: its data listener, say
		return err
	case err := <-read:
		if errors.Is(err, errLinkLost) {
			l.exit(ExitLinkLost) // at once, whatever the tasks do
		}
		cancel()
		return errors.Join(err, <-ran)
	}
}

// commands hands the worker what the task manager sends, until the link ends.
func (l *link) commands(w *worker.Worker, room *headroom) error {
	for {
		f, err := l.receive()
		if err != nil {
			return err
		}
		if ping := f.GetPing(); ping != nil {
			if err := l.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Pong{Pong: &pb.WorkerPong{Number: ping.GetNumber()}}}); err != nil {
				return err
			}
			continue
		}
		if again := f.GetWelcome(); again != nil {
			// Another number of slots: the limit that GOMEMLIMIT set at the start.
			debug.SetMemoryLimit(int64(again.GetMemoryBytes() / 10 * 9))
			room.resize(again.GetMemoryBytes())
			continue
		}
		cmd := f.GetCommand()
		if cmd == nil {
			return fmt.Errorf("worker mode: the task manager sent %T", f.GetBody())
		}
		w.Handle(cmd)
	}
}
