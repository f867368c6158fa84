package job

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// A trace in testdata is a story: lines that begin with ">" are events, the
// indented lines below are the actions that came of them. UPDATE_GOLDEN=1
// writes the actions anew.
func TestTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/*.trace")
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".trace"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(want))
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// stage replays a script.
type stage struct {
	t   *testing.T
	m   *Master
	now time.Time
	out strings.Builder
}

func replay(t *testing.T, script string) string {
	s := &stage{t: t, now: time.UnixMilli(1_000_000)}
	record := &pb.JobRecord{Submitted: &pb.JobSubmitted{JobId: "job", Graph: testGraph(2, false)}}
	if strings.Contains(script, "\n# restart-strategy none\n") {
		record.Submitted.Graph.Config.Restart = &pb.RestartStrategy{Kind: never}
	}
	m, err := New(Config{Record: record})
	if err != nil {
		t.Fatal(err)
	}
	s.m = m
	for _, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue // an action, to be compared
		}
		fmt.Fprintln(&s.out, line)
		if after, ok := strings.CutPrefix(line, "> "); ok {
			for _, a := range m.Step(s.event(strings.Fields(after)), s.now) {
				fmt.Fprintf(&s.out, "    %s\n", draw(a))
			}
			fmt.Fprintf(&s.out, "  %s\n", m.State())
		}
	}
	return s.out.String()
}

// event reads one of the short forms that traces use.
func (s *stage) event(f []string) Event {
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	num := func(i int) uint64 {
		n, _ := strconv.ParseUint(arg(i), 10, 64)
		return n
	}
	fails := func(i int) error {
		if arg(i) == "" {
			return nil
		}
		return errors.New(strings.Join(f[i:], " "))
	}
	report := func(r *pb.WorkerReport) Event {
		r.Epoch = num(2)
		return WorkerReported{Worker: f[1], Report: r}
	}
	switch f[0] {
	case "submitted":
		return Submitted{}
	case "slots":
		return SlotsGranted{Slots: f[1:]}
	case "after":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
		return Tick{}
	case "journaled":
		return Journaled{Token: Token(num(1)), Err: fails(2)}
	case "taken":
		return Journaled{Token: Token(num(1)), Err: fmt.Errorf("append: %w", &EpochTaken{Highest: num(2)})}
	case "written":
		return ManifestWritten{Token: Token(num(1)), Err: fails(2)}
	case "started":
		return WorkerStarted{Worker: f[1], DataAddress: "host:" + f[1]}
	case "exited":
		return WorkerExited{Worker: f[1], Exit: &pb.WorkerExited{Signal: "killed"}}
	case "lost":
		return TaskManagerLost{TaskManager: f[1], Reason: "link broke"}
	case "ready":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Ready{Ready: &pb.TasksReady{}}})
	case "running":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Running{Running: &pb.TasksRunning{}}})
	case "ended":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Ended{Ended: &pb.TasksEnded{}}})
	case "exhausted":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Exhausted{Exhausted: &pb.SourcesExhausted{}}})
	case "failed":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{
			VertexId: "v2", Subtask: 1, Error: &pb.Error{Code: "user-function-failed", Message: "boom", Operator: "sum"},
		}}})
	case "closed": // a shard that the sink writes
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{
			VertexId: "v2", Subtask: 1, Error: &pb.Error{Code: "shard-closed", Message: "it was split", Operator: "out", Subject: arg(3)},
		}}})
	case "hung":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{
			VertexId: "v2", Subtask: 1, Error: &pb.Error{Code: "task-hung", Message: "it hangs", Operator: "sum"},
		}}})
	case "fenced": // at a shard, which the sink's task finds out
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{
			VertexId: "v2", Subtask: 1, Error: &pb.Error{Code: "stale-epoch", Message: "fenced", Operator: "out"},
		}}})
	case "over": // at another worker, whose attempt has ended
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{
			Error: &pb.Error{Code: "stale-epoch", Message: "epoch is over"},
		}}})
	case "not-recovered":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Committed{Committed: &pb.SinkCommitted{
			Uid: "out", CheckpointId: num(3), Recovered: true, Error: &pb.Error{Code: "stale-epoch", Message: "fenced"},
		}}})
	case "away": // a host of shards, which the source cannot do without
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{
			VertexId: "v2", Subtask: 1, Error: &pb.Error{Code: "shard-unavailable", Message: "host is away", Operator: "in"},
		}}})
	case "streams":
		return StreamsChanged{}
	case "enumerated":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Enumerated{Enumerated: &pb.Enumerated{
			Uid: "src", Splits: []*pb.SplitAssignment{{Uid: "src", Splits: []*pb.Split{{Id: "s0"}}}},
		}}})
	case "recovered", "committed":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Committed{Committed: &pb.SinkCommitted{
			Uid: "out", CheckpointId: num(3), Recovered: f[0] == "recovered",
		}}})
	case "not-committed":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Committed{Committed: &pb.SinkCommitted{
			Uid: "out", CheckpointId: num(3), Error: &pb.Error{Code: "shard-unavailable", Message: "host is away"},
		}}})
	case "tips":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Tips{Tips: &pb.TipsFound{
			Uid: "src", Tips: []*pb.DrainPosition{{Uid: "src", Split: "s0", Position: []byte(arg(3))}},
		}}})
	case "ack":
		ack := &pb.CheckpointAck{CheckpointId: num(3)}
		if position := arg(4); position != "" {
			split, _ := proto.Marshal(&pb.Split{Id: "s0", Position: []byte(position)})
			ack.Operators = []*pb.OperatorSnapshot{
				{Uid: "src", Entries: []*pb.OperatorEntry{{Kind: checkpoint.EntrySplit, Key: "s0", Value: split}}},
				{Uid: "out", Entries: []*pb.OperatorEntry{{Kind: checkpoint.EntryHandle, Value: []byte("to-" + position)}}},
			}
		}
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Ack{Ack: ack}})
	case "cancel":
		return CancelRequested{Request: RequestID(num(1))}
	case "stop":
		return StopRequested{Request: RequestID(num(1))}
	case "drain":
		return StopRequested{Request: RequestID(num(1)), Drain: true}
	case "rescale":
		name, n, _ := strings.Cut(arg(2), "=")
		parallelism, _ := strconv.Atoi(n)
		return RescaleRequested{Request: RequestID(num(1)), Vertices: map[string]int{name: parallelism}}
	case "resized":
		return SlotsResized{Token: Token(num(1)), Slots: f[2:]}
	case "declined":
		return report(&pb.WorkerReport{Body: &pb.WorkerReport_Declined{Declined: &pb.CheckpointDeclined{
			CheckpointId: num(3), Error: &pb.Error{Code: "checkpoint-declined", Message: "no"},
		}}})
	case "savepoint":
		return SavepointRequested{Request: RequestID(num(1)), Directory: arg(2)}
	}
	s.t.Fatalf("unknown event %q", f)
	return nil
}

// draw shows an action as people read it.
func draw(a Action) string {
	switch a := a.(type) {
	case SendWorker:
		return fmt.Sprintf("send %s epoch %d %s", a.Worker, a.Command.GetEpoch(), drawCommand(a.Command))
	case Journal:
		return fmt.Sprintf("journal #%d %s", a.Token, drawRecord(a.Record))
	case WriteManifest:
		return fmt.Sprintf("write #%d %s", a.Token, a.Key)
	case Observe:
		return "observe " + strings.TrimPrefix(fmt.Sprintf("%T", a.Observation), "job.")
	case Answer:
		if a.Err != nil {
			return fmt.Sprintf("answer %d: %s", a.Request, protoError(a.Err).GetCode())
		}
		if p := a.Result.Parallelism; p != nil {
			return fmt.Sprintf("answer %d: %v, paused %v", a.Request, p, a.Result.Pause)
		}
		return fmt.Sprintf("answer %d: checkpoint %d %s", a.Request, a.Result.CheckpointID, a.Result.Path)
	case StartWorker:
		return fmt.Sprintf("start %s on %s with %d slots", a.Worker, a.TaskManager, a.Slots)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T %+v", a, a), "job.")
}

func drawCommand(c *pb.WorkerCommand) string {
	switch b := c.GetBody().(type) {
	case *pb.WorkerCommand_Deploy:
		text := fmt.Sprintf("deploy as %d, slots %v, restore %d", b.Deploy.GetSelf(), b.Deploy.GetSlotWorker(), b.Deploy.GetRestoreCheckpoint())
		if b.Deploy.GetKeepState() {
			text += ", keep state"
		}
		return text
	case *pb.WorkerCommand_Start:
		return fmt.Sprintf("start %d splits, %d ends", len(b.Start.GetSplits()), len(b.Start.GetDrain()))
	case *pb.WorkerCommand_Enumerate:
		return fmt.Sprintf("enumerate %s, %d known", b.Enumerate.GetUid(), len(b.Enumerate.GetKnown()))
	case *pb.WorkerCommand_Recover:
		return fmt.Sprintf("recover %s, checkpoint %d, %d handles", b.Recover.GetUid(), b.Recover.GetCheckpointId(), len(b.Recover.GetHandles()))
	case *pb.WorkerCommand_Commit:
		return fmt.Sprintf("commit %s, checkpoint %d, %d handles", b.Commit.GetUid(), b.Commit.GetCheckpointId(), len(b.Commit.GetHandles()))
	case *pb.WorkerCommand_Trigger:
		return fmt.Sprintf("trigger %d savepoint=%v terminal=%v full=%v", b.Trigger.GetCheckpointId(), b.Trigger.GetSavepoint(), b.Trigger.GetTerminal(), b.Trigger.GetFull()) +
			map[bool]string{true: " halt"}[b.Trigger.GetHalt()]
	case *pb.WorkerCommand_Completed:
		return fmt.Sprintf("completed %d", b.Completed.GetCheckpointId())
	case *pb.WorkerCommand_Aborted:
		return fmt.Sprintf("aborted %d", b.Aborted.GetCheckpointId())
	case *pb.WorkerCommand_DrainTo:
		return fmt.Sprintf("drain to %s", b.DrainTo.GetPositions()[0].GetPosition())
	}
	name := fmt.Sprintf("%T", c.GetBody())
	return strings.ToLower(name[strings.LastIndex(name, "_")+1:])
}

func drawRecord(r *pb.JournalRecord) string {
	switch b := r.GetBody().(type) {
	case *pb.JournalRecord_JobAttempt:
		text := fmt.Sprintf("attempt epoch %d", b.JobAttempt.GetEpoch())
		for _, id := range slices.Sorted(maps.Keys(b.JobAttempt.GetParallelism())) {
			text += fmt.Sprintf(" %s=%d", id, b.JobAttempt.GetParallelism()[id])
		}
		if b.JobAttempt.GetRescaled() {
			text += " rescaled"
		}
		if c := b.JobAttempt.GetCause(); c != nil {
			text += fmt.Sprintf(" after %s of %q at %d", c.GetCode(), b.JobAttempt.GetTask(), b.JobAttempt.GetFailedMs())
		}
		if b.JobAttempt.GetUncounted() {
			text += ", not counted"
		}
		return text
	case *pb.JournalRecord_CheckpointDone:
		return fmt.Sprintf("checkpoint %d terminal=%v drained=%v", b.CheckpointDone.GetCheckpointId(), b.CheckpointDone.GetTerminal(), b.CheckpointDone.GetDrained())
	case *pb.JournalRecord_JobStopping:
		return b.JobStopping.GetHow()
	case *pb.JournalRecord_JobDraining:
		return fmt.Sprintf("draining to %s", b.JobDraining.GetPositions()[0].GetPosition())
	case *pb.JournalRecord_JobEnded:
		return strings.TrimSpace("ended " + b.JobEnded.GetState() + " " + b.JobEnded.GetError().GetCode())
	}
	return fmt.Sprintf("%T", r.GetBody())
}
