package inspect

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Summary is what a manifest says, for people. Sizes are bytes, times Unix
// milliseconds.
type Summary struct {
	Path       string     `json:"path"`
	Savepoint  bool       `json:"savepoint"`
	Job        string     `json:"job-id"`
	JobName    string     `json:"job-name"`
	Lineage    string     `json:"lineage"`
	Epoch      uint64     `json:"epoch"`
	Checkpoint uint64     `json:"checkpoint-id"`
	Triggered  int64      `json:"triggered"`
	Completed  int64      `json:"completed"`
	Drained    bool       `json:"drained"`
	Plan       string     `json:"plan-hash"`
	Objects    int        `json:"objects"`
	Bytes      uint64     `json:"bytes"`
	Entries    uint64     `json:"entries"`
	Operators  []Operator `json:"operators"`
}

// Operator is what is kept of one operator.
type Operator struct {
	UID            string    `json:"uid"`
	Name           string    `json:"name"`
	Kind           string    `json:"kind"`
	MaxParallelism uint32    `json:"max-parallelism"`
	Bytes          uint64    `json:"bytes"`
	Entries        uint64    `json:"entries"`
	States         []State   `json:"states"`
	Subtasks       []Subtask `json:"subtasks"`
	Splits         []Split   `json:"splits"`
	// Handles are what a transactional sink had prepared.
	Handles int `json:"handles"`
	// Watermark is the least that a subtask had reached, absent for none.
	Watermark *int64 `json:"watermark,omitempty"`
}

// State is one declared state with its schemas.
type State struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Key is the stream's; At the index of a list or the key of a map.
	Key       string `json:"key"`
	At        string `json:"at,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Value     string `json:"value"`
}

// Subtask is the part of one subtask. Entries and bytes are those of its runs:
// deletions and what newer runs hide are among them. StateBytes are live.
type Subtask struct {
	Subtask    uint32 `json:"subtask"`
	Runs       int    `json:"runs"`
	Bytes      uint64 `json:"bytes"`
	Entries    uint64 `json:"entries"`
	StateBytes uint64 `json:"state-bytes"`
}

// Split is a part of a source, such as a shard.
type Split struct {
	ID      string `json:"id"`
	Subtask uint32 `json:"subtask"`
	// Position after the last record taken in: text as it is, else
	// hexadecimal. Empty at the beginning.
	Position  string `json:"position"`
	Finished  bool   `json:"finished"`
	Watermark *int64 `json:"watermark,omitempty"`
}

// Summarize describes the manifest at a path. It does no I/O. The error is
// an entry that cannot be read.
func Summarize(path string, m *pb.Manifest) (*Summary, error) {
	s := &Summary{
		Path: path, Savepoint: m.GetSavepoint(), Job: m.GetJobId(), JobName: m.GetGraph().GetName(), Lineage: m.GetLineage(),
		Epoch: m.GetEpoch(), Checkpoint: m.GetCheckpointId(), Triggered: m.GetTriggeredMs(), Completed: m.GetCompletedMs(),
		Drained: m.GetDrained(), Plan: hex.EncodeToString(m.GetPlanHash()), Objects: len(checkpoint.Objects(m)), Operators: []Operator{},
	}
	at := map[string]int{}
	for _, v := range m.GetGraph().GetVertices() {
		for _, o := range v.GetOperators() {
			at[o.GetUid()] = len(s.Operators)
			s.Operators = append(s.Operators, describe(v, o))
		}
	}
	for _, snap := range m.GetOperators() {
		i, ok := at[snap.GetUid()]
		if !ok {
			i, at[snap.GetUid()] = len(s.Operators), len(s.Operators)
			s.Operators = append(s.Operators, describe(&pb.Vertex{MaxParallelism: snap.GetMaxParallelism()}, &pb.Operator{Uid: snap.GetUid(), Name: snap.GetUid()}))
		}
		if err := s.Operators[i].add(snap); err != nil {
			return nil, fmt.Errorf("%s: operator %q, subtask %d: %w", path, snap.GetUid(), snap.GetSubtask(), err)
		}
	}
	for _, o := range s.Operators {
		s.Bytes, s.Entries = s.Bytes+o.Bytes, s.Entries+o.Entries
	}
	return s, nil
}

func describe(v *pb.Vertex, o *pb.Operator) Operator {
	out := Operator{
		UID: o.GetUid(), Name: o.GetName(), Kind: o.GetKind(), MaxParallelism: v.GetMaxParallelism(),
		States: []State{}, Subtasks: []Subtask{}, Splits: []Split{},
	}
	for _, d := range o.GetStates() {
		if !companion(d, o.GetStates()) {
			state := State{Name: d.GetName(), Kind: d.GetKind(), Key: d.GetKeySchema(), Namespace: d.GetNamespaceSchema(), Value: d.GetValueSchema()}
			if dec, err := newDecoder(d); err == nil && dec.shape != plain {
				state.Key, state.At = dec.stream.String(), dec.key.Fields[1].Type.String()
			}
			out.States = append(out.States, state)
		}
	}
	return out
}

// sizes names the table of sizes beside a list or map, gaps that of the gaps in
// a list.
const (
	sizes = "/size"
	gaps  = "/gaps"
)

// companion says that a state is the sizes or the gaps of a list or map, which is
// shown instead.
func companion(d *pb.StateDecl, all []*pb.StateDecl) bool {
	of, ok := strings.CutSuffix(d.GetName(), sizes)
	if !ok {
		of, ok = strings.CutSuffix(d.GetName(), gaps)
	}
	for _, other := range all {
		if ok && other.GetName() == of && shapeOf(other) != plain {
			return true
		}
	}
	return false
}

func (o *Operator) add(snap *pb.OperatorSnapshot) error {
	sub := Subtask{Subtask: snap.GetSubtask(), Runs: len(snap.GetRuns()), StateBytes: snap.GetStateBytes()}
	for _, r := range snap.GetRuns() {
		sub.Bytes += r.GetLength()
		sub.Entries += r.GetEntries()
	}
	o.Bytes, o.Entries = o.Bytes+sub.Bytes, o.Entries+sub.Entries
	o.Subtasks = append(o.Subtasks, sub)
	for _, e := range snap.GetEntries() {
		switch e.GetKind() {
		case checkpoint.EntryHandle:
			o.Handles++
		case checkpoint.EntrySplit:
			split, err := readSplit(e)
			if err != nil {
				return err
			}
			o.Splits = append(o.Splits, Split{
				ID: split.GetId(), Subtask: snap.GetSubtask(), Position: printable(split.GetPosition()),
				Finished: split.GetFinished(), Watermark: known(split.GetWatermark()),
			})
		case checkpoint.EntryWatermark:
			if len(e.GetValue()) != 8 {
				return fmt.Errorf("watermark %q has %d bytes, want 8", e.GetKey(), len(e.GetValue()))
			}
			if t := known(int64(binary.LittleEndian.Uint64(e.GetValue()))); t != nil && (o.Watermark == nil || *t < *o.Watermark) {
				o.Watermark = t
			}
		}
	}
	return nil
}

func readSplit(e *pb.OperatorEntry) (*pb.Split, error) {
	split := &pb.Split{}
	if err := proto.Unmarshal(e.GetValue(), split); err != nil {
		return nil, fmt.Errorf("split %q: %w", e.GetKey(), err)
	}
	return split, nil
}

// known is a watermark, nil before the first and at the end of time.
func known(t int64) *int64 {
	if t == math.MinInt64 || t == math.MaxInt64 {
		return nil
	}
	return &t
}

// printable shows text as it is and other bytes in hexadecimal.
func printable(b []byte) string {
	text := string(b)
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	return "0x" + hex.EncodeToString(b)
}
