package taskmanager

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/cluster"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/taskmanager/supervise"
)

// bucketWithJob returns a bucket with this test binary in it.
func bucketWithJob(t *testing.T) (url, digest string) {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blob.Open(t.Context(), "mem://"+strings.ReplaceAll(t.Name(), "/", "-"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	digest = hex.EncodeToString(sum[:])
	if err := b.Put(t.Context(), "binaries/"+digest, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	return b.URL(), digest
}

func startWorker(digest string) *pb.JobManagerMessage {
	return &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StartWorker{StartWorker: &pb.StartWorker{
		JobId: "job", JobName: "name", WorkerId: "w1", Binary: digest, Slots: 2}}}
}

func TestWorkersOutliveTheLink(t *testing.T) {
	url, digest := bucketWithJob(t)
	jm := newLeader(t, 3, url)
	tm, stop := run(t, Config{JobManager: jm.address, Slots: 2, KinesisAddress: "127.0.0.1:4567", Token: "secret", Version: "v1"})
	a := jm.await()
	r := a.register
	if r.GetId() != tm.ID() || r.GetSlots() != 2 || r.GetShardAddress() != tm.ShardAddress() || r.GetKinesisAddress() != "127.0.0.1:4567" ||
		r.GetVersion() != "v1" || r.GetHardware().GetMemoryBytes() == 0 || len(r.GetWorkers()) != 0 || r.GetClusterId() != "" {
		t.Errorf("registered: %v", r)
	}
	if got := a.header.Get("Authorization"); got != "Bearer secret" {
		t.Errorf("authorization %q", got)
	}
	if b := receive(t, a.beats, "heartbeat"); b.GetResidentBytes() == 0 || b.GetFreeMemoryBytes() == 0 {
		t.Errorf("heartbeat: %v", b)
	}

	a.down <- startWorker(digest)
	started := a.next().GetWorkerStarted()
	if started.GetWorkerId() != "w1" || started.GetJobId() != "job" {
		t.Fatalf("started: %v", started)
	}
	const commands = 300
	for i := range commands {
		a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_ToWorker{ToWorker: &pb.ToWorker{
			WorkerId: "w1", Command: &pb.WorkerCommand{Epoch: uint64(i)}}}}
	}
	for i := range commands {
		if from := a.next().GetFromWorker(); from.GetReport().GetEpoch() != uint64(i) || from.GetWorkerId() != "w1" {
			t.Fatalf("report %d: %v", i, from)
		}
	}

	// The link breaks; the worker stays, and the next leader hears of it.
	a.drop()
	b := jm.await()
	if b.register.GetIncarnation() != r.GetIncarnation() || b.register.GetClusterId() != "cluster-1" {
		t.Errorf("registered again: %v", b.register)
	}
	if w := b.register.GetWorkers(); len(w) != 1 || w[0].GetPid() != started.GetPid() {
		t.Errorf("workers registered: %v", w)
	}
	b.down <- startWorker(digest)
	if again := b.next().GetWorkerStarted(); again.GetPid() != started.GetPid() {
		t.Errorf("started again: %v", again)
	}

	stop()
	if err := syscall.Kill(int(started.GetPid()), 0); err == nil {
		t.Error("the worker lives on after its task manager ended")
	}
}

func ask(a *attachment, r *pb.Request) *pb.Reply {
	a.t.Helper()
	a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_Request{Request: r}}
	reply := a.next().GetReply()
	if reply.GetId() != r.GetId() {
		a.t.Fatalf("got %v, want a reply to request %d", reply, r.GetId())
	}
	return reply
}

func TestRequestsAreAnswered(t *testing.T) {
	url, digest := bucketWithJob(t)
	jm := newLeader(t, 1, url)
	run(t, Config{JobManager: "http://" + jm.address})
	a := jm.await()
	plan := ask(a, &pb.Request{Id: 1, Body: &pb.Request_Plan{Plan: &pb.RunPlan{Binary: digest}}})
	if plan.GetPlan().GetGraph().GetName() != "planned" {
		t.Errorf("plan: %v", plan)
	}
	missing := ask(a, &pb.Request{Id: 2, Body: &pb.Request_Plan{Plan: &pb.RunPlan{Binary: strings.Repeat("00", 32)}}})
	if missing.GetError().GetCode() != supervise.CodeBinaryNotFound {
		t.Errorf("plan of no binary: %v", missing)
	}
	a.down <- startWorker(digest)
	a.next()
	a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StopWorker{StopWorker: &pb.StopWorker{WorkerId: "w1"}}}
	if x := a.next().GetWorkerExited(); !x.GetRequested() || x.GetSignal() != "SIGKILL" {
		t.Errorf("exited: %v", x)
	}
	if logs := ask(a, &pb.Request{Id: 3, Body: &pb.Request_ListLogs{ListLogs: &pb.ListLogs{}}}); logs.GetError() != nil || len(logs.GetLogs().GetFiles()) != 2 {
		t.Errorf("logs: %v", logs)
	}
	log := ask(a, &pb.Request{Id: 4, Body: &pb.Request_ReadLog{ReadLog: &pb.ReadLog{Name: "../taskmanager/id"}}})
	if log.GetError().GetCode() != supervise.CodeLogNotFound {
		t.Errorf("log outside the folder: %v", log)
	}
	if unknown := ask(a, &pb.Request{Id: 5}); unknown.GetError() == nil {
		t.Error("an unknown request was answered without an error")
	}
}

func TestSilentLeaderIsLost(t *testing.T) {
	jm := newLeader(t, 1, "mem://")
	run(t, Config{JobManager: jm.address, Timeout: 200 * time.Millisecond})
	jm.beat.Store(false)
	a := jm.await()
	receive(t, a.gone, "end of the silent link")
	jm.beat.Store(true)
	jm.await()
}

// A job manager that is stopped takes nothing: what is being sent must not
// hold up the end of the link.
func TestStoppedLeaderIsLost(t *testing.T) {
	jm := newLeader(t, 1, "mem://")
	tm, _ := run(t, Config{JobManager: jm.address, Timeout: 500 * time.Millisecond})
	jm.deaf.Store(true)
	jm.beat.Store(false)
	a := jm.await()
	big := &pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerExited{WorkerExited: &pb.WorkerExited{Error: &pb.Error{Message: strings.Repeat("x", 1<<20)}}}}
	for range 50 {
		tm.up(big)
	}
	receive(t, a.gone, "end of the link to a stopped job manager")
	jm.deaf.Store(false)
	jm.beat.Store(true)
	receive(t, jm.await().beats, "heartbeat of the next link")
}

// A queue that is full ends the link rather than leaving a gap.
func TestFullQueueEndsTheLink(t *testing.T) {
	jm := newLeader(t, 1, "mem://")
	tm, _ := run(t, Config{JobManager: jm.address, Queue: 8})
	jm.deaf.Store(true)
	a := jm.await()
	big := &pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerExited{WorkerExited: &pb.WorkerExited{Error: &pb.Error{Message: strings.Repeat("x", 1<<20)}}}}
	for range 50 {
		tm.up(big)
	}
	receive(t, a.gone, "end of the link")
}

func TestStaleLeaderIsRefused(t *testing.T) {
	jm := newLeader(t, 7, "mem://")
	tm, _ := run(t, Config{JobManager: jm.address})
	first := jm.await()
	receive(t, first.beats, "heartbeat") // the registration is settled
	jm.registered = &pb.Registered{ClusterId: "cluster-1", LeaderEpoch: 6, Bucket: "mem://", Protocol: 1}
	first.drop()
	for range 2 { // refused, and tried again
		a := jm.await()
		receive(t, a.gone, "end of the link to a stale leader")
	}
	if tm.link.Load() != nil && tm.link.Load().registered.Load() {
		t.Error("attached to a leader of a lower epoch")
	}
}

func TestFolderBelongsToOneCluster(t *testing.T) {
	data := t.TempDir()
	jm := newLeader(t, 1, "mem://")
	tm, stop := run(t, Config{JobManager: jm.address, Data: data})
	receive(t, jm.await().beats, "heartbeat")
	id := tm.ID()
	_, err := New(Config{JobManager: jm.address, Data: data})
	var fault *supervise.Fault
	if !errors.As(err, &fault) || fault.Code != codeFolderInUse || !strings.Contains(err.Error(), fmt.Sprintf("%s is in use by process %d", data, os.Getpid())) {
		t.Errorf("second task manager on a folder: %v", err)
	}
	stop()
	lock, err := LockFolder(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{JobManager: jm.address, Data: data}); !errors.As(err, &fault) || fault.Code != codeFolderInUse {
		t.Errorf("task manager on a locked folder: %v", err)
	}
	if mine, err := New(Config{JobManager: jm.address, Data: data, Lock: lock}); err != nil || mine.Close() != nil {
		t.Errorf("task manager under the caller's lock: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	other := newLeader(t, 1, "mem://")
	other.registered.ClusterId = "cluster-2"
	tm, _ = run(t, Config{JobManager: other.address, Data: data})
	if tm.ID() != id {
		t.Errorf("id %s became %s", id, tm.ID())
	}
	a := other.await()
	if a.register.GetClusterId() != "cluster-1" {
		t.Errorf("registered: %v", a.register)
	}
	receive(t, a.gone, "end of the link to another cluster")
}

// catalog of one stream with one shard on a task manager.
func catalog(owner, address string) *pb.Catalog {
	last := bytes.Repeat([]byte{0xff}, 16)
	return &pb.Catalog{Version: 5, LastGeneration: 1, Hosts: []*pb.ShardHost{{Id: owner, Address: address}},
		Streams: []*pb.Stream{{Name: "s", Generation: 1, RetentionHours: 24, Status: pb.Stream_STATUS_ACTIVE,
			Shards: []*pb.Shard{{HashFirst: make([]byte, 16), HashLast: last, Owner: owner, OwnerEpoch: 1}}}}}
}

func TestShardsAreHosted(t *testing.T) {
	jm := newLeader(t, 1, "mem://")
	tm, _ := run(t, Config{JobManager: jm.address})
	if _, err := tm.Service().Catalog(t.Context()); stream.KindOf(err) != stream.Unavailable {
		t.Errorf("catalog before there is one: %v", err)
	}
	a := jm.await()
	a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_Catalog{Catalog: catalog(tm.ID(), tm.ShardAddress())}}
	if applied := a.next().GetCatalogApplied(); applied.GetVersion() != 5 || applied.GetError() != nil {
		t.Fatalf("applied: %v", applied)
	}
	receive(t, tm.Ready(), "readiness")
	results, err := tm.Service().Put(t.Context(), "s", []stream.Entry{{PartitionKey: "k", Hash: stream.HashKey(md5.Sum([]byte("k"))), Data: []byte("data")}})
	if err != nil || len(results) != 1 || results[0].Err != nil {
		t.Fatalf("Put: %v, %v", results, err)
	}
	read, err := tm.Service().Read(t.Context(), "s", 0, stream.Position{From: stream.FromTrimHorizon}, 10, 1<<20, 0)
	if err != nil || len(read.Records) != 1 || string(read.Records[0].Data) != "data" {
		t.Fatalf("Read: %v, %v", read, err)
	}

	// A change of the catalog goes up, and its answer comes back.
	done := make(chan error, 1)
	command := &pb.StreamCommand{Body: &pb.StreamCommand_Delete{Delete: &pb.DeleteStream{Name: "s"}}}
	go func() { done <- tm.Service().Command(t.Context(), command) }()
	call := a.next().GetStreamCall()
	if call.GetCommand().GetDelete().GetName() != "s" {
		t.Errorf("call: %v", call)
	}
	a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StreamReply{StreamReply: &pb.StreamReply{
		Id: call.GetId(), Error: &pb.Error{Code: "stream-busy", Message: "wait"}}}}
	if err := receive(t, done, "answer"); stream.KindOf(err) != stream.InUse {
		t.Errorf("command: %v", err)
	}
	go func() { done <- tm.Service().Command(t.Context(), command) }()
	a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StreamReply{StreamReply: &pb.StreamReply{
		Id: a.next().GetStreamCall().GetId(), Error: &pb.Error{Code: "timed-out", Message: "its hosts have not opened it"}}}}
	if err := receive(t, done, "answer"); stream.KindOf(err) != stream.Unavailable {
		t.Errorf("command that the job manager gave up: %v", err)
	}
	go func() { done <- tm.Service().Command(t.Context(), command) }()
	a.next()
	a.drop()
	if err := receive(t, done, "answer"); stream.KindOf(err) != stream.Unavailable {
		t.Errorf("command whose link broke: %v", err)
	}
}

// Whose command was answered sees what it did, though the catalog comes after
// the answer; whose stream existed already sees that one.
func TestACommandIsSeenOnceItIsAnswered(t *testing.T) {
	for name, refusal := range map[string]*pb.Error{"created": nil, "existed": {Code: "stream-exists", Message: "it exists"}} {
		t.Run(name, func(t *testing.T) {
			jm := newLeader(t, 1, "mem://")
			tm, _ := run(t, Config{JobManager: jm.address})
			a := jm.await()
			empty := &pb.Catalog{Version: 4}
			a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_Catalog{Catalog: empty}}
			a.next()
			seen := make(chan error, 1)
			go func() {
				err := tm.Service().Command(t.Context(), &pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{Name: "s", Shards: 1}}})
				if (err != nil) != (refusal != nil) {
					t.Errorf("command: %v", err)
				}
				_, err = tm.Service().Describe(t.Context(), "s")
				seen <- err
			}()
			a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StreamReply{StreamReply: &pb.StreamReply{
				Id: a.next().GetStreamCall().GetId(), CatalogVersion: 5, Error: refusal}}}
			ask(a, &pb.Request{Id: 1, Body: &pb.Request_ListLogs{ListLogs: &pb.ListLogs{}}}) // the answer is there
			a.down <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_Catalog{Catalog: catalog(tm.ID(), tm.ShardAddress())}}
			if err := receive(t, seen, "sight of the stream"); err != nil {
				t.Errorf("described after the answer: %v", err)
			}
		})
	}
}

func TestTheNewestLeaderIsFound(t *testing.T) {
	join := func(name, address string, epoch uint64, seeds ...string) *cluster.Cluster {
		c, err := cluster.Join(cluster.Config{Name: name, Role: cluster.JobManager, Seeds: seeds,
			Meta: cluster.Meta{ControlAddress: address, ClusterID: "cluster-1", LeaderEpoch: epoch}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	one, two := newLeader(t, 4, "mem://"), newLeader(t, 5, "mem://")
	first := join("jm-1", one.address, 4)
	run(t, Config{Join: []string{first.GossipAddress()}})
	a := one.await()
	// Another one takes over, while the first still thinks that it leads.
	second := join("jm-2", two.address, 0)
	if err := second.Update(cluster.Meta{ControlAddress: two.address, ClusterID: "cluster-1", LeaderEpoch: 5}); err != nil {
		t.Fatal(err)
	}
	joined := make(chan error, 1)
	go func() { joined <- second.Seed(first.GossipAddress()) }()
	if err := receive(t, joined, "meeting of job managers"); err != nil {
		t.Fatal(err)
	}
	two.await()
	receive(t, a.gone, "end of the link to the former leader")
}

func TestConfigIsChecked(t *testing.T) {
	for name, config := range map[string]Config{
		"no data": {JobManager: "x"}, "no leader": {Data: "x"}, "slots": {Data: "x", JobManager: "x", Slots: -1},
		"memory": {Data: "x", JobManager: "x", SlotMemory: 1000},
		"bind":   {Data: t.TempDir(), JobManager: "x", Bind: "203.0.113.1"},
	} {
		if tm, err := New(config); err == nil {
			tm.Close()
			t.Errorf("%s: New succeeded", name)
		}
	}
}
