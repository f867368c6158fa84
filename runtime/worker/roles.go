package worker

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/sink"
	"github.com/millrace/millrace/runtime/source"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// sinkQueue bounds the calls that wait at one sink. The master sends one at a
// time and waits for its answer.
const sinkQueue = 16

// role waits for the graph and finds the role of an operator; false when the
// attempt is over.
func (a *attempt) role(uid string) (name string, parallelism int, role any, ok bool) {
	select {
	case <-a.graphed:
	case <-a.ctx.Done():
		return "", 0, nil, false
	}
	m := a.members[uid]
	if m == nil {
		return uid, 0, nil, true
	}
	for _, v := range a.deploy.GetGraph().GetVertices() {
		for _, o := range v.GetOperators() {
			if o.GetUid() == uid {
				parallelism = int(v.GetParallelism())
			}
		}
	}
	return m.Name, parallelism, m.Node.Roles, true
}

func (a *attempt) sourceEnv(name string) source.Env {
	return source.Env{
		JobName: a.w.cfg.JobName, Operator: name, ShardAddress: a.w.cfg.ShardAddress,
		Log: a.w.cfg.Log.With("operator", name), Wake: func() {},
	}
}

// atSource runs f with a source's role, behind a door and within rolePatience.
func (a *attempt) atSource(uid string, f func(context.Context, operator.SourceRole, source.Env) error) (ok bool, err error) {
	name, _, role, ok := a.role(uid)
	if !ok {
		return false, nil
	}
	r, isSource := role.(operator.SourceRole)
	if !isSource {
		return true, failf(codeSourceFailed, "operator %q of this binary is no source", uid)
	}
	ctx, cancel := context.WithTimeout(a.ctx, rolePatience)
	defer cancel()
	err = protect(codeSourceFailed, func() error { return f(ctx, r, a.sourceEnv(name)) })
	return a.ctx.Err() == nil, err
}

func (a *attempt) enumerate(cmd *pb.Enumerate) {
	out := &pb.Enumerated{Uid: cmd.GetUid()}
	ok, err := a.atSource(cmd.GetUid(), func(ctx context.Context, r operator.SourceRole, env source.Env) (err error) {
		if cmd.GetAgain() {
			var fresh []*pb.Split
			fresh, err = r.Followers(ctx, env, cmd.GetKnown())
			out.Splits = []*pb.SplitAssignment{{Splits: fresh}}
			return err
		}
		out.Splits, err = r.Enumerate(ctx, env, cmd.GetKnown(), int(cmd.GetParallelism()))
		return err
	})
	if !ok {
		return
	}
	for _, s := range out.Splits {
		s.Uid = cmd.GetUid()
	}
	out.Error = protoError(err, codeSourceFailed)
	a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Enumerated{Enumerated: out}})
}

func (a *attempt) findTips(cmd *pb.FindTips) {
	out := &pb.TipsFound{Uid: cmd.GetUid()}
	ok, err := a.atSource(cmd.GetUid(), func(ctx context.Context, r operator.SourceRole, env source.Env) (err error) {
		out.Tips, err = r.Tips(ctx, env, cmd.GetSplits())
		return err
	})
	if !ok {
		return
	}
	for _, t := range out.Tips {
		t.Uid = cmd.GetUid()
	}
	out.Error = protoError(err, codeSourceFailed)
	a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Tips{Tips: out}})
}

// atSink runs f on the goroutine of a sink, after what came before; it is
// called by the worker's goroutine.
func (a *attempt) atSink(uid string, f func()) {
	queue := a.sinks[uid]
	if queue == nil {
		queue = make(chan func(), sinkQueue)
		a.sinks[uid] = queue
		a.spawn(func() {
			for {
				select {
				case f := <-queue:
					f()
				case <-a.ctx.Done():
					return
				}
			}
		})
	}
	select {
	case queue <- f:
	case <-a.ctx.Done():
	}
}

func (a *attempt) recoverSink(cmd *pb.RecoverSink) {
	a.callSink(cmd.GetUid(), cmd.GetCheckpointId(), cmd.GetLineage(), cmd.GetHandles(), true)
}

func (a *attempt) commitSink(cmd *pb.CommitSink) {
	a.callSink(cmd.GetUid(), cmd.GetCheckpointId(), cmd.GetLineage(), cmd.GetHandles(), false)
}

func (a *attempt) callSink(uid string, id uint64, lineage string, sent []*pb.SinkHandle, recovering bool) {
	name, parallelism, role, ok := a.role(uid)
	if !ok {
		return
	}
	out := &pb.SinkCommitted{Uid: uid, CheckpointId: id, Recovered: recovering}
	env := sink.Env{
		JobName: a.w.cfg.JobName, Operator: name, UID: uid, Parallelism: parallelism, Epoch: a.epoch, Lineage: lineage,
		ShardAddress: a.w.cfg.ShardAddress, Log: a.w.cfg.Log.With("operator", name), Held: func() {}, Fail: func(error) {},
	}
	handles := make([]sink.Handle, 0, len(sent))
	for _, h := range sent {
		handles = append(handles, sink.Handle{Subtask: int(h.GetSubtask()), Value: h.GetValue()})
	}
	err := protect(codeSinkFailed, func() error {
		r, isSink := role.(operator.SinkRole)
		if !isSink {
			return failf(codeSinkFailed, "operator %q of this binary is no transactional sink", uid)
		}
		ctx, cancel := context.WithTimeout(a.ctx, rolePatience)
		defer cancel()
		if recovering {
			if err := failpoint.Hit("restore.before-recover-sink"); err != nil {
				return err
			}
			if err := r.Recover(ctx, env, id, handles); err != nil {
				return err
			}
			return failpoint.Hit("restore.after-recover-sink")
		}
		if err := failpoint.Hit("commit.before"); err != nil {
			return err
		}
		if err := r.Commit(ctx, env, id, handles); err != nil {
			return err
		}
		return failpoint.Hit("commit.after")
	})
	if a.ctx.Err() != nil {
		return
	}
	if err != nil {
		out.Error = protoError(fmt.Errorf("sink %s, checkpoint %d: %w", name, id, err), codeSinkFailed)
	} else {
		out.VisibleMs = a.w.now()
	}
	a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Committed{Committed: out}})
}
