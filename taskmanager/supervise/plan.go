package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/internal/frame"
	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Plan runs a binary twice in plan mode, side by side, and returns its graph
// if both agree on it. Errors are *Fault. At most two plans run at a time; the
// others wait for them, or for the end of ctx.
func (s *Supervisor) Plan(ctx context.Context, target Target, req *pb.RunPlan) (*pb.PlanResult, error) {
	select {
	case s.plans <- struct{}{}:
		defer func() { <-s.plans }()
	case <-ctx.Done():
		return nil, faultf(CodePlanTimedOut, "plan of binary %.12s: other plans are under way: %w", req.GetBinary(), ctx.Err())
	}
	type outcome struct {
		result *pb.PlanResult
		err    error
	}
	answer := make(chan outcome, 1)
	if !s.start(func() {
		result, err := s.plan(ctx, target, req)
		answer <- outcome{result, err}
	}) {
		return nil, faultf(CodeShuttingDown, "the task manager is shutting down")
	}
	o := <-answer
	return o.result, o.err
}

func (s *Supervisor) plan(ctx context.Context, target Target, req *pb.RunPlan) (*pb.PlanResult, error) {
	path, err := s.binaries.fetch(ctx, target.Bucket, req.GetBinary())
	if err != nil {
		var f *Fault
		if errors.As(err, &f) {
			return nil, f
		}
		return nil, faultf(CodePlanTimedOut, "fetch binary %.12s: %w", req.GetBinary(), err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Plan)
	defer cancel()
	// The end of Run ends plans as well.
	defer context.AfterFunc(s.ctx, cancel)()
	var results [2]*pb.PlanResult
	var errs [2]error
	var both sync.WaitGroup
	for i := range results {
		both.Go(func() {
			results[i], errs[i] = s.planOnce(ctx, path, target, req)
			if errs[i] != nil {
				cancel() // the other one's answer is of no use
			}
		})
	}
	both.Wait()
	if err := firstCause(errs); err != nil {
		return nil, err
	}
	if diff := difference(results[0].GetGraph(), results[1].GetGraph()); diff != "" {
		return nil, faultf(CodePlanDiffers, "two runs of the same binary made different graphs: %s; build must not use random values, clocks or the order of maps", diff)
	}
	return results[0], nil
}

// firstCause prefers what went wrong by itself to what was cancelled for it.
func firstCause(errs [2]error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs[:]...)
}

// planOnce runs one process in plan mode.
func (s *Supervisor) planOnce(ctx context.Context, path string, target Target, req *pb.RunPlan) (*pb.PlanResult, error) {
	s.mu.Lock()
	s.mu.plans++
	owner := s.config.Owner + "/plan-" + strconv.FormatUint(s.mu.plans, 10)
	s.mu.Unlock()
	p, err := s.exec(ctx, launch{path: path, args: req.GetArgs(), mode: modePlan, owner: owner, env: s.environment(target.URL, 1, nil)})
	if err != nil {
		return nil, faultf(CodeWorkerStartFailed, "start binary %.12s in plan mode: %w", req.GetBinary(), err)
	}
	// Whatever happens, the process does not outlive this call.
	stop := context.AfterFunc(ctx, func() { p.kill(syscall.SIGKILL) })
	result, err := s.converse(p, req)
	stop()
	if err == nil {
		p.settle(ctx)
	}
	p.kill(syscall.SIGKILL)
	p.control.Close()
	<-p.dead
	if err == nil {
		return result, nil
	}
	if cause := ctx.Err(); errors.Is(cause, context.DeadlineExceeded) {
		err = faultf(CodePlanTimedOut, "plan of binary %.12s took more than %v: %w", req.GetBinary(), s.config.Plan, cause)
	} else if cause != nil {
		return nil, fmt.Errorf("plan of binary %.12s: %w", req.GetBinary(), cause)
	}
	var f *Fault
	if !errors.As(err, &f) {
		_, _, how := p.how()
		f = faultf(CodeBuildFailed, "the binary %s in plan mode, without an answer: %w", how, err)
	}
	return nil, f.withTail(p.err.end())
}

// converse asks for the plan.
func (s *Supervisor) converse(p *process, req *pb.RunPlan) (*pb.PlanResult, error) {
	in, out := frame.NewReader(p.control), frame.NewWriter(p.control)
	if _, err := s.hello(p, in, modePlan, "the binary"); err != nil {
		return nil, err
	}
	if err := p.control.SetReadDeadline(time.Now().Add(s.config.Plan)); err != nil {
		return nil, err
	}
	for _, f := range []*pb.WorkerFrame{
		{Body: &pb.WorkerFrame_Welcome{Welcome: &pb.WorkerWelcome{Protocol: protocolVersion, Slots: 1, MemoryBytes: s.budget(1)}}},
		{Body: &pb.WorkerFrame_PlanRequest{PlanRequest: &pb.PlanRequest{DefaultParallelism: req.GetDefaultParallelism()}}},
	} {
		if err := out.Write(f); err != nil {
			return nil, err
		}
	}
	var f pb.WorkerFrame
	if err := in.Read(&f); err != nil {
		return nil, err
	}
	result := f.GetPlanResult()
	switch e := result.GetError(); {
	case result == nil:
		return nil, faultf(CodeProtocolMismatch, "the binary answered the plan request with something else: rebuild it with the SDK of this version")
	case e != nil:
		return nil, &Fault{Code: e.GetCode(), Message: e.GetMessage(), Operator: e.GetOperator(), Subtask: e.GetSubtask(), Stack: e.GetStack()}
	case len(result.GetGraph().GetPlanHash()) == 0:
		return nil, faultf(CodeProtocolMismatch, "the binary sent a graph without a plan hash: rebuild it with the SDK of this version")
	}
	return result, nil
}

// difference names the first thing that differs between two graphs.
func difference(a, b *pb.JobGraph) string {
	if bytes.Equal(a.GetPlanHash(), b.GetPlanHash()) {
		return ""
	}
	switch {
	case a.GetName() != b.GetName():
		return fmt.Sprintf("the job is called %q and %q", a.GetName(), b.GetName())
	case len(a.GetVertices()) != len(b.GetVertices()):
		return fmt.Sprintf("one has %d vertices, the other %d", len(a.GetVertices()), len(b.GetVertices()))
	}
	for i, v := range a.GetVertices() {
		other := b.GetVertices()[i]
		if proto.Equal(v, other) {
			continue
		}
		for j, op := range v.GetOperators() {
			if j < len(other.GetOperators()) && !proto.Equal(op, other.GetOperators()[j]) {
				return fmt.Sprintf("operator %q of one is %q of the other, or differs from it", op.GetName(), other.GetOperators()[j].GetName())
			}
		}
		return fmt.Sprintf("vertex %q differs", v.GetName())
	}
	return "their settings differ"
}
