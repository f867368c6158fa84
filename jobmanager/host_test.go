package jobmanager

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/snapshot"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/proto/millrace/v1/pbconnect"
)

// host is a fake task manager whose workers do at once what they are told.
type host struct {
	c      *cluster
	id     string
	stream *connect.BidiStreamForClient[pb.TaskManagerMessage, pb.JobManagerMessage]
	done   chan struct{}

	mu struct {
		sync.Mutex
		seen    []string // commands, in order
		workers map[string]string
		chains  map[string][]*pb.RunRef // by job, of what is in objects
	}
	send sync.Mutex
}

const (
	sourceVertex = "00000000000000000000000000000001"
	sinkVertex   = "00000000000000000000000000000002"
)

func graph(parallelism uint32) *pb.JobGraph {
	parallelism = max(1, parallelism) // the job's own default
	return &pb.JobGraph{
		Name: "delays", PlanHash: []byte("plan"),
		Config: &pb.JobConfig{CheckpointIntervalMs: 1000, CheckpointTimeoutMs: 60000, RetainedCheckpoints: 1, DefaultParallelism: parallelism,
			Restart: &pb.RestartStrategy{Kind: pb.RestartStrategy_KIND_EXPONENTIAL, InitialDelayMs: 100, MaxDelayMs: 1000, Multiplier: 2, ResetMs: 60000}},
		Vertices: []*pb.Vertex{
			{Id: sourceVertex, Name: "Source: flights", Parallelism: parallelism, MaxParallelism: 128,
				Operators: []*pb.Operator{{Uid: "flights", Name: "Source: flights", Kind: "Source", Source: true}}},
			{Id: sinkVertex, Name: "delays", Parallelism: parallelism, MaxParallelism: 128,
				Operators: []*pb.Operator{{Uid: "delays", Name: "delays", Kind: "Sink", TransactionalSink: true, States: []*pb.StateDecl{
					{Name: "last", Kind: "value", KeySchema: "string", ValueSchema: "{Delay int32}"}}}},
				Inputs: []*pb.Input{{FromVertex: sourceVertex, Ship: pb.Ship_SHIP_HASH}}},
		},
	}
}

// join attaches a fake task manager, which may still run workers.
func (c *cluster) join(l *leader, id string, slots uint32, workers ...*pb.WorkerStarted) *host {
	c.t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p, DialContext: c.net.dial}
	c.t.Cleanup(tr.CloseIdleConnections)
	h := &host{c: c, id: id, done: make(chan struct{})}
	h.mu.workers, h.mu.chains = map[string]string{}, map[string][]*pb.RunRef{}
	for _, w := range workers {
		h.mu.workers[w.GetWorkerId()] = w.GetJobId()
	}
	h.stream = pbconnect.NewControlClient(&http.Client{Transport: tr}, l.ControlURL()).Attach(c.t.Context())
	h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Register{Register: &pb.Register{
		Id: id, ProtocolMin: 1, ProtocolMax: 1, Slots: slots, SlotMemory: 1 << 20, Host: "127.0.0.1",
		ShardAddress: "127.0.0.1:1", Hardware: &pb.Hardware{Cores: 2, MemoryBytes: 1 << 30}, Version: "v1", Workers: workers}}})
	m, err := h.stream.Receive()
	if err != nil || m.GetRegistered().GetError() != nil {
		c.t.Fatalf("register: %v, %v", m, err)
	}
	go h.run()
	return h
}

// leave breaks the stream, as a task manager that is killed does.
func (h *host) leave() {
	_ = h.stream.CloseRequest()
	_ = h.stream.CloseResponse()
	<-h.done
}

func (h *host) say(m *pb.TaskManagerMessage) {
	h.send.Lock()
	defer h.send.Unlock()
	_ = h.stream.Send(m) // a job manager that is gone is seen by Receive
}

func (h *host) report(job, worker string, epoch uint64, r *pb.WorkerReport) {
	r.Epoch = epoch
	h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_FromWorker{FromWorker: &pb.FromWorker{JobId: job, WorkerId: worker, Report: r}}})
}

func (h *host) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.seen = append(h.mu.seen, fmt.Sprintf(format, args...))
}

func (h *host) saw(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.mu.seen {
		if strings.HasPrefix(s, what) {
			return true
		}
	}
	return false
}

// count is how many of the commands that came begin so.
func (h *host) count(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, s := range h.mu.seen {
		if strings.HasPrefix(s, what) {
			n++
		}
	}
	return n
}

// worker is the job and id of the one worker here.
func (h *host) worker() (job, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, job := range h.mu.workers {
		return job, id
	}
	return "", ""
}

// crash ends the worker as SIGKILL would.
func (h *host) crash() {
	h.exit(&pb.Error{Code: "worker-exited", Message: "worker was killed"})
}

// crashOf is crash of one of several workers.
func (h *host) crashOf(job string) {
	h.mu.Lock()
	worker := ""
	for id, of := range h.mu.workers {
		if of == job {
			worker = id
		}
	}
	h.mu.Unlock()
	h.exitOf(job, worker, &pb.Error{Code: "worker-exited", Message: "worker was killed"})
}

// exit ends the worker for a reason.
func (h *host) exit(reason *pb.Error) {
	job, id := h.worker()
	h.exitOf(job, id, reason)
}

func (h *host) exitOf(job, id string, reason *pb.Error) {
	h.mu.Lock()
	delete(h.mu.workers, id)
	h.mu.Unlock()
	h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerExited{WorkerExited: &pb.WorkerExited{
		JobId: job, WorkerId: id, ExitCode: -1, Signal: "killed", Error: reason}}})
}

func (h *host) run() {
	defer close(h.done)
	for {
		m, err := h.stream.Receive()
		if err != nil {
			return
		}
		switch b := m.GetBody().(type) {
		case *pb.JobManagerMessage_Heartbeat:
			h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Heartbeat{Heartbeat: &pb.TaskManagerHeartbeat{FreeMemoryBytes: 5, ResidentBytes: 7}}})
		case *pb.JobManagerMessage_Request:
			h.reply(b.Request)
		case *pb.JobManagerMessage_StartWorker:
			w := b.StartWorker
			h.note("start-worker")
			h.mu.Lock()
			h.mu.workers[w.GetWorkerId()] = w.GetJobId()
			h.mu.Unlock()
			h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerStarted{WorkerStarted: &pb.WorkerStarted{
				JobId: w.GetJobId(), WorkerId: w.GetWorkerId(), DataAddress: "127.0.0.1:2", Pid: 4711}}})
		case *pb.JobManagerMessage_ResizeWorker:
			h.note("resize-worker to %d", b.ResizeWorker.GetSlots())
		case *pb.JobManagerMessage_StopWorker:
			id := b.StopWorker.GetWorkerId()
			h.note("stop-worker %s", id)
			h.mu.Lock()
			job, ok := h.mu.workers[id]
			delete(h.mu.workers, id)
			h.mu.Unlock()
			if ok {
				h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerExited{WorkerExited: &pb.WorkerExited{JobId: job, WorkerId: id, Requested: true}}})
			}
		case *pb.JobManagerMessage_ToWorker:
			h.mu.Lock()
			job := h.mu.workers[b.ToWorker.GetWorkerId()]
			h.mu.Unlock()
			if job != "" {
				h.obey(job, b.ToWorker.GetWorkerId(), b.ToWorker.GetCommand())
			}
		case *pb.JobManagerMessage_Catalog:
			h.note("catalog %d", len(b.Catalog.GetStreams()))
			h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_CatalogApplied{CatalogApplied: &pb.CatalogApplied{Version: b.Catalog.GetVersion()}}})
		case *pb.JobManagerMessage_StreamReply:
			h.note("stream-reply %d %s", b.StreamReply.GetId(), b.StreamReply.GetError().GetCode())
		}
	}
}

func (h *host) reply(r *pb.Request) {
	a := &pb.Reply{Id: r.GetId()}
	switch b := r.GetBody().(type) {
	case *pb.Request_Plan:
		h.note("plan %v", b.Plan.GetArgs())
		if len(b.Plan.GetArgs()) > 0 && b.Plan.GetArgs()[0] == "--broken" {
			a.Error = &pb.Error{Code: "build-failed", Message: "build: no such file"}
			break
		}
		if len(b.Plan.GetArgs()) > 0 && b.Plan.GetArgs()[0] == "--wrong" {
			a.Error = &pb.Error{Code: "arguments-invalid", Message: "flag provided but not defined: -wrong"}
			break
		}
		g := graph(b.Plan.GetDefaultParallelism())
		if len(b.Plan.GetArgs()) > 0 && b.Plan.GetArgs()[0] == "--other" {
			g.Vertices[1].Operators[0].Uid = "another"
		}
		if len(b.Plan.GetArgs()) > 1 && b.Plan.GetArgs()[0] == "--state" {
			g.Vertices[1].Operators[0].States[0].ValueSchema = b.Plan.GetArgs()[1]
		}
		a.Body = &pb.Reply_Plan{Plan: &pb.PlanResult{Graph: g}}
	case *pb.Request_ListLogs:
		a.Body = &pb.Reply_Logs{Logs: &pb.LogList{Files: []*pb.LogFile{{Name: "w.out", Size: 5, ModifiedMs: 1}, {Name: "w.err", Size: 5, ModifiedMs: 1}}}}
	case *pb.Request_ReadLog:
		data := []byte("hello")[b.ReadLog.GetOffset():]
		a.Body = &pb.Reply_Log{Log: &pb.LogChunk{Data: data[:min(len(data), int(b.ReadLog.GetLimit()))], Size: 5}}
	}
	h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Reply{Reply: a}})
}

// obey answers a command as a worker with empty state does.
func (h *host) obey(job, worker string, c *pb.WorkerCommand) {
	e := c.GetEpoch()
	answer := func(r *pb.WorkerReport) { h.report(job, worker, e, r) }
	switch b := c.GetBody().(type) {
	case *pb.WorkerCommand_Deploy:
		h.note("deploy epoch %d restore %d keep %v slots %d", e, b.Deploy.GetRestoreCheckpoint(), b.Deploy.GetKeepState(), len(b.Deploy.GetSlotWorker()))
		h.restore(job, b.Deploy)
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Ready{Ready: &pb.TasksReady{}}})
	case *pb.WorkerCommand_Enumerate:
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Enumerated{Enumerated: &pb.Enumerated{Uid: b.Enumerate.GetUid(),
			Splits: []*pb.SplitAssignment{{Uid: b.Enumerate.GetUid(), Splits: []*pb.Split{{Id: "shard-0"}}}}}}})
	case *pb.WorkerCommand_Recover:
		h.note("recover %d", b.Recover.GetCheckpointId())
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Committed{Committed: &pb.SinkCommitted{
			Uid: b.Recover.GetUid(), CheckpointId: b.Recover.GetCheckpointId(), Recovered: true}}})
	case *pb.WorkerCommand_Start:
		h.note("start epoch %d", e)
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Running{Running: &pb.TasksRunning{}}})
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_FirstOutput{FirstOutput: &pb.FirstOutput{AtMs: time.Now().UnixMilli()}}})
		h.metrics(job, worker, e, time.Now().UnixMilli(), 100)
		h.metrics(job, worker, e, time.Now().UnixMilli()+1000, 300)
	case *pb.WorkerCommand_Trigger:
		h.note("trigger %d terminal %v halt %v", b.Trigger.GetCheckpointId(), b.Trigger.GetTerminal(), b.Trigger.GetHalt())
		ack := &pb.CheckpointAck{CheckpointId: b.Trigger.GetCheckpointId()}
		for i := range h.subtasks() {
			for _, uid := range []string{"flights", "delays"} {
				s := &pb.OperatorSnapshot{Uid: uid, Subtask: i, Parallelism: h.subtasks(), MaxParallelism: 128,
					Entries: []*pb.OperatorEntry{{Kind: "test", Key: "k", Value: []byte("v")}}}
				if uid == "delays" {
					s.Runs = h.runs(job, e, b.Trigger)
				}
				ack.Operators = append(ack.Operators, s)
			}
			for _, v := range []string{sourceVertex, sinkVertex} {
				ack.Stats = append(ack.Stats, &pb.TaskCheckpointStats{VertexId: v, Subtask: i, CheckpointedBytes: 10, StateBytes: 20})
			}
		}
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Ack{Ack: ack}})
	case *pb.WorkerCommand_Completed:
		h.note("completed %d", b.Completed.GetCheckpointId())
	case *pb.WorkerCommand_Commit:
		h.note("commit %d", b.Commit.GetCheckpointId())
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Committed{Committed: &pb.SinkCommitted{Uid: b.Commit.GetUid(), CheckpointId: b.Commit.GetCheckpointId()}}})
	case *pb.WorkerCommand_FindTips:
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Tips{Tips: &pb.TipsFound{Uid: b.FindTips.GetUid(),
			Tips: []*pb.DrainPosition{{Uid: b.FindTips.GetUid(), Split: "shard-0", Position: []byte("9")}}}}})
	case *pb.WorkerCommand_DrainTo:
		h.note("drain")
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Exhausted{Exhausted: &pb.SourcesExhausted{}}})
	case *pb.WorkerCommand_Cancel, *pb.WorkerCommand_Finish:
		h.note("end %T", c.GetBody())
		answer(&pb.WorkerReport{Body: &pb.WorkerReport_Ended{Ended: &pb.TasksEnded{}}})
	}
}

// mostRuns is when the oldest run of a chain goes, as if the others held it.
const mostRuns = 3

// restore begins with the chain that the restored checkpoint names.
func (h *host) restore(job string, d *pb.Deploy) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.chains[job] = nil
	for _, s := range d.GetRestore() {
		if s.GetUid() == "delays" && h.c.objects != nil {
			h.mu.chains[job] = slices.Clone(s.GetRuns())
		}
	}
}

// runs are the keyed state of a checkpoint: inline, or, where the cluster has a
// bucket for them, a new object behind those of the checkpoints before.
func (h *host) runs(job string, epoch uint64, t *pb.TriggerCheckpoint) []*pb.RunRef {
	run := lastDelays()
	if h.c.objects == nil {
		return []*pb.RunRef{run.Inline()}
	}
	key := checkpoint.StateObject(checkpoint.StatePrefix(job, epoch), t.GetStatePrefix(), checkpoint.ID(t.GetCheckpointId()), 0)
	if err := h.c.objects.Put(h.c.t.Context(), key, bytes.NewReader(run.Bytes), run.Size()); err != nil {
		panic(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	chain := []*pb.RunRef{run.Ref(key, 0)}
	if !t.GetFull() {
		chain = append(slices.Clone(h.mu.chains[job]), chain...)
		chain = chain[max(0, len(chain)-mostRuns):]
	}
	if !t.GetSavepoint() {
		h.mu.chains[job] = chain
	}
	return chain
}

// lastDelays is a full run of the state "last": DTW was 7 minutes late.
func lastDelays() snapshot.Run {
	w := snapshot.NewWriter(128)
	w.Full()
	w.Put(29, "last", 0, []byte("\x03DTW"), []byte{7, 0, 0, 0}) // group 236 of 1024 (docs/formats/keyhash.md)
	run, err := w.Finish()
	if err != nil {
		panic(err)
	}
	return run
}

func (h *host) subtasks() uint32 { return 1 }

func (h *host) metrics(job, worker string, epoch uint64, at int64, records uint64) {
	h.report(job, worker, epoch, &pb.WorkerReport{Body: &pb.WorkerReport_Metrics{Metrics: &pb.MetricsReport{AtMs: at, Tasks: []*pb.TaskMetrics{
		{VertexId: sourceVertex, RecordsOut: records, BusyNs: records * 1e6, Watermark: 42, Status: "RUNNING",
			Splits:    []*pb.SplitMetrics{{Id: "shard-0", Watermark: 42, MillisBehind: 3}},
			Operators: []*pb.OperatorMetrics{{Uid: "flights", Name: "Source: flights", RecordsOut: records}}},
		{VertexId: sinkVertex, RecordsIn: records, Watermark: 42, StateBytes: 5 << 20, KeyedEntries: 7},
	}, Process: &pb.ProcessMetrics{HeapBytes: 1 << 20, Goroutines: 9}}}})
}
