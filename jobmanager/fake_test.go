package jobmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/millrace/millrace/blob"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/proto/millrace/v1/pbconnect"
)

// network connects clients and servers of one test through pipes, so that all
// of it runs on the time of a synctest bubble.
type network struct {
	mu sync.Mutex
	at map[string]*pipeListener
}

type pipeListener struct {
	net     *network
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type pipeAddr string

func (pipeAddr) Network() string  { return "tcp" }
func (a pipeAddr) String() string { return string(a) }

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.at[l.address] == l {
			delete(l.net.at, l.address)
		}
	})
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.address) }

func (n *network) listen(_, address string) (net.Listener, error) {
	l := &pipeListener{net: n, address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[address] = l
	return l, nil
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.at[address]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	select {
	case l.conns <- a:
		return b, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cluster is one bucket with the job managers and task managers of a test.
type cluster struct {
	t      *testing.T
	bucket blob.Bucket
	net    *network
	http   *http.Client
	// configure, where set, changes the configuration of leaders.
	configure func(*Config)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, bucket: blob.NewMemory(), net: &network{at: map[string]*pipeListener{}}}
	tr := &http.Transport{DialContext: c.net.dial}
	c.http = &http.Client{Transport: tr}
	t.Cleanup(tr.CloseIdleConnections)
	return c
}

// leader is a job manager that runs.
type leader struct {
	*JobManager
	stop context.CancelFunc
	err  chan error
}

func (c *cluster) lead(rest, control string) *leader {
	c.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	cfg := Config{Bucket: c.bucket, REST: rest, Control: control, Log: log, UploadDir: c.t.TempDir(),
		Version: "v1", Settings: map[string]string{"slots": "2"}, Hosts: []string{"jm.test"}}
	if c.configure != nil {
		c.configure(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	m.listenOn = c.net.listen
	ctx, cancel := context.WithCancel(c.t.Context())
	l := &leader{JobManager: m, stop: cancel, err: make(chan error, 1)}
	go func() { l.err <- m.Run(ctx) }()
	select {
	case <-m.Ready():
	case err := <-l.err:
		c.t.Fatalf("job manager did not start: %v", err)
	}
	return l
}

// kill ends a job manager and waits for it.
func (l *leader) kill(t *testing.T) {
	t.Helper()
	l.stop()
	if err := <-l.err; err != nil {
		t.Fatalf("job manager ended with %v", err)
	}
}

// call sends a request and decodes the JSON of its answer.
func (c *cluster) call(method, url string, body any, want int) map[string]any {
	c.t.Helper()
	v := c.callAny(method, url, body, want)
	m, ok := v.(map[string]any)
	if !ok {
		c.t.Fatalf("%s %s: answer %v is no object", method, url, v)
	}
	return m
}

func (c *cluster) callAny(method, url string, body any, want int) any {
	c.t.Helper()
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, url, r)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.do(req, want)
}

func (c *cluster) do(req *http.Request, want int) any {
	c.t.Helper()
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != want {
		c.t.Fatalf("%s %s: status %d, want %d: %s", req.Method, req.URL, resp.StatusCode, want, data)
	}
	if !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return string(data)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		c.t.Fatalf("%s %s: %v: %s", req.Method, req.URL, err, data)
	}
	return v
}

// upload sends bytes as a multipart upload and returns the jar's id.
func (c *cluster) upload(rest, name string, data []byte, want int) map[string]any {
	c.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("jarfile", name)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := part.Write(data); err != nil {
		c.t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, rest+"/jars/upload", &body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	return c.do(req, want).(map[string]any)
}

// executable is a binary for this platform: the test's own, cut short behind
// what is looked at.
func (c *cluster) executable() []byte {
	c.t.Helper()
	path, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

// await looks until f is true. Time is the bubble's: it costs none.
func (c *cluster) await(what string, f func() bool) {
	c.t.Helper()
	for range 3000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("waited 30 s for %s", what)
}

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
				Operators: []*pb.Operator{{Uid: "delays", Name: "delays", Kind: "Sink", TransactionalSink: true}},
				Inputs:    []*pb.Input{{FromVertex: sourceVertex, Ship: pb.Ship_SHIP_HASH}}},
		},
	}
}

// join attaches a fake task manager.
func (c *cluster) join(l *leader, id string, slots uint32) *host {
	c.t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p, DialContext: c.net.dial}
	c.t.Cleanup(tr.CloseIdleConnections)
	h := &host{c: c, id: id, done: make(chan struct{})}
	h.mu.workers = map[string]string{}
	h.stream = pbconnect.NewControlClient(&http.Client{Transport: tr}, l.ControlURL()).Attach(c.t.Context())
	h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Register{Register: &pb.Register{
		Id: id, ProtocolMin: 1, ProtocolMax: 1, Slots: slots, SlotMemory: 1 << 20, Host: "127.0.0.1",
		ShardAddress: "127.0.0.1:1", Hardware: &pb.Hardware{Cores: 2, MemoryBytes: 1 << 30}, Version: "v1"}}})
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
	job, id := h.worker()
	h.mu.Lock()
	delete(h.mu.workers, id)
	h.mu.Unlock()
	h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerExited{WorkerExited: &pb.WorkerExited{
		JobId: job, WorkerId: id, ExitCode: -1, Signal: "killed", Error: &pb.Error{Code: "worker-exited", Message: "worker was killed"}}}})
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
		case *pb.JobManagerMessage_StopWorker:
			h.note("stop-worker")
			id := b.StopWorker.GetWorkerId()
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
		g := graph(b.Plan.GetDefaultParallelism())
		if len(b.Plan.GetArgs()) > 0 && b.Plan.GetArgs()[0] == "--other" {
			g.Vertices[1].Operators[0].Uid = "another"
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
		h.note("deploy epoch %d restore %d", e, b.Deploy.GetRestoreCheckpoint())
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
		h.note("trigger %d terminal %v", b.Trigger.GetCheckpointId(), b.Trigger.GetTerminal())
		ack := &pb.CheckpointAck{CheckpointId: b.Trigger.GetCheckpointId()}
		for i := range h.subtasks() {
			for _, uid := range []string{"flights", "delays"} {
				ack.Operators = append(ack.Operators, &pb.OperatorSnapshot{Uid: uid, Subtask: i, Parallelism: h.subtasks(), MaxParallelism: 128,
					Entries: []*pb.OperatorEntry{{Kind: "test", Key: "k", Value: []byte("v")}}})
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

func (h *host) subtasks() uint32 { return 1 }

func (h *host) metrics(job, worker string, epoch uint64, at int64, records uint64) {
	h.report(job, worker, epoch, &pb.WorkerReport{Body: &pb.WorkerReport_Metrics{Metrics: &pb.MetricsReport{AtMs: at, Tasks: []*pb.TaskMetrics{
		{VertexId: sourceVertex, RecordsOut: records, BusyNs: records * 1e6, Watermark: 42, Status: "RUNNING",
			Splits:    []*pb.SplitMetrics{{Id: "shard-0", Watermark: 42, MillisBehind: 3}},
			Operators: []*pb.OperatorMetrics{{Uid: "flights", Name: "Source: flights", RecordsOut: records}}},
		{VertexId: sinkVertex, RecordsIn: records, Watermark: 42},
	}, Process: &pb.ProcessMetrics{HeapBytes: 1 << 20, Goroutines: 9}}}})
}
