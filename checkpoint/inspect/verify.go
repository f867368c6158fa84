package inspect

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/checkpoint/snapshot"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Report is what Verify found.
type Report struct {
	Path    string `json:"path"`
	Objects int    `json:"objects"`
	Runs    int    `json:"runs"`
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
	// Checked says of everything how far it could be checked.
	Checked []Checked `json:"checked"`
	// Problems are what would keep it from being restored; none, and it will be.
	Problems []Problem `json:"problems"`
}

// Problem is one thing that is damaged.
type Problem struct {
	// Code is one of the catalogue: snapshot-corrupt, snapshot-truncated or
	// snapshot-missing.
	Code     string `json:"code"`
	Operator string `json:"operator,omitempty"`
	Subtask  uint32 `json:"subtask"`
	// Object is where it lies, "(inline)" in the manifest itself. Offset counts
	// from the beginning of the object, -1 where it is not known.
	Object string `json:"object"`
	Offset int64  `json:"offset"`
	Detail string `json:"detail"`
}

// maxProblems bounds a report.
const maxProblems = 1000

// Verify reads everything that a manifest names: sizes, checksums, the order of
// keys, their key groups, every entry by its schema, and records in flight. What is
// damaged is in the report, and how much only the job's binary could read. The error
// wraps blob.ErrNotFound where there is no manifest, or is of a bucket that does not
// answer. said, if not nil, is told the runs done so far, of how many.
func Verify(ctx context.Context, b blob.Bucket, key string, said func(done, of int)) (*Report, error) {
	m, err := manifest.Read(ctx, b, key)
	var corrupt *manifest.CorruptError
	if errors.As(err, &corrupt) {
		p := Problem{Code: manifest.Code(err), Object: key, Offset: corrupt.Offset, Detail: err.Error()}
		return &Report{Path: checkpoint.PathOf(key), Objects: 1, Checked: []Checked{}, Problems: []Problem{p}}, nil
	}
	if err != nil {
		return nil, err
	}
	rep := &Report{Path: checkpoint.PathOf(key), Objects: len(checkpoint.Objects(m)), Problems: []Problem{}}
	v := verifier{ctx: ctx, bucket: b, rep: rep, path: key, account: account{}, splits: map[string]bool{}, subtasks: map[string]map[uint32]bool{}}
	total := 0
	for _, s := range m.GetOperators() {
		total += len(s.GetRuns())
	}
	if m.GetSavepoint() {
		v.foreign(m)
	}
	for _, s := range m.GetOperators() {
		v.snapshot(s)
		op := find(m, s.GetUid())
		decoders := map[string]*decoder{}
		for _, d := range op.GetStates() {
			dec, err := newDecoder(d)
			if err != nil {
				v.problem(s, key, -1, "snapshot-corrupt", err)
				continue
			}
			decoders[d.GetName()] = dec
		}
		for _, ref := range s.GetRuns() {
			if err := v.run(s, ref, decoders); err != nil {
				return nil, err
			}
			rep.Runs++
			rep.Bytes += ref.GetLength()
			if said != nil {
				said(rep.Runs, total)
			}
		}
	}
	rep.Checked = v.account.list()
	return rep, nil
}

type verifier struct {
	ctx      context.Context
	bucket   blob.Bucket
	rep      *Report
	path     string
	account  account
	splits   map[string]bool
	subtasks map[string]map[uint32]bool
}

func (v *verifier) problem(s *pb.OperatorSnapshot, object string, offset int64, code string, err error) {
	if len(v.rep.Problems) < maxProblems {
		v.rep.Problems = append(v.rep.Problems, Problem{code, s.GetUid(), s.GetSubtask(), object, offset, err.Error()})
	}
}

// foreign finds objects that do not lie beside a savepoint's manifest: whoever
// deletes or copies its folder would not know of them.
func (v *verifier) foreign(m *pb.Manifest) {
	folder := strings.TrimSuffix(v.path, "manifest")
	for _, s := range m.GetOperators() {
		for _, ref := range s.GetRuns() {
			if o := ref.GetObject(); o != "" && !strings.HasPrefix(o, folder) {
				v.problem(s, v.path, -1, "snapshot-corrupt", fmt.Errorf("the savepoint refers to %s, which is not in its folder", o))
			}
		}
	}
}

// snapshot checks what the manifest itself says of a subtask.
func (v *verifier) snapshot(s *pb.OperatorSnapshot) {
	bad := func(format string, args ...any) {
		v.problem(s, v.path, -1, "snapshot-corrupt", fmt.Errorf(format, args...))
	}
	if v.subtasks[s.GetUid()] == nil {
		v.subtasks[s.GetUid()] = map[uint32]bool{}
	}
	switch {
	case v.subtasks[s.GetUid()][s.GetSubtask()]:
		bad("subtask %d of operator %q is there twice", s.GetSubtask(), s.GetUid())
	case s.GetSubtask() >= s.GetParallelism():
		bad("subtask %d of operator %q, whose parallelism is %d", s.GetSubtask(), s.GetUid(), s.GetParallelism())
	}
	v.subtasks[s.GetUid()][s.GetSubtask()] = true
	for _, e := range s.GetEntries() {
		if err := v.entry(s, e); err != nil {
			bad("%w", err)
		}
	}
}

// run reads one run whole. The error is one that may pass.
func (v *verifier) run(s *pb.OperatorSnapshot, ref *pb.RunRef, decoders map[string]*decoder) error {
	object := ref.GetObject()
	if object == "" {
		object = "(inline)"
	}
	entries, err := v.entries(s, ref, decoders)
	v.rep.Entries += entries
	var corrupt *snapshot.CorruptError
	var entry *entryError
	switch {
	case err == nil:
	case v.ctx.Err() != nil:
		return v.ctx.Err()
	case errors.As(err, &corrupt):
		v.problem(s, object, int64(ref.GetOffset())+corrupt.Offset, manifest.Code(err), err)
	case manifest.Code(err) != "":
		v.problem(s, object, int64(ref.GetOffset()), manifest.Code(err), err)
	case errors.As(err, &entry):
		v.problem(s, object, int64(ref.GetOffset())+entry.offset, "snapshot-corrupt", err)
	default:
		return err
	}
	return nil
}

// entryError is what is wrong with a run whose bytes are those written.
type entryError struct {
	offset int64 // in the run: where the entry ends
	err    error
}

func (e *entryError) Error() string { return e.err.Error() }
func (e *entryError) Unwrap() error { return e.err }

func (v *verifier) entries(s *pb.OperatorSnapshot, ref *pb.RunRef, decoders map[string]*decoder) (n uint64, err error) {
	bad := func(offset int64, format string, args ...any) error {
		return &entryError{offset, fmt.Errorf("run %s: "+format, append([]any{snapshot.NameOf(ref)}, args...)...)}
	}
	groups, first, last := int(s.GetMaxParallelism()), int(ref.GetKeyGroupFirst()), int(ref.GetKeyGroupLast())
	if first > last || last >= groups {
		return 0, bad(0, "its manifest says that it speaks for the key groups %d to %d of %d", first, last, groups)
	}
	readers, err := snapshot.OpenChain(v.ctx, v.bucket, []*pb.RunRef{ref}, 0, groups-1)
	if err != nil {
		return 0, err
	}
	defer closeAll(readers)
	r := readers[0]
	if f, l := r.Groups(); f != first || l != last {
		return 0, bad(0, "it speaks for the key groups %d to %d, its manifest says %d to %d", f, l, first, last)
	}
	count := map[string]uint64{}
	defer func() {
		for state, n := range count {
			how, opaque := decoders[state].how()
			v.account.add(s.GetUid(), "state", state, n, how, opaque)
		}
	}()
	for ; r.Next(); n++ {
		if n%1024 == 0 && v.ctx.Err() != nil {
			return n, v.ctx.Err()
		}
		e := r.Entry()
		d := decoders[e.State]
		if d == nil {
			return n, bad(r.Offset(), "key group %d: state %q is not declared, so that nobody can read it", e.Group, e.State)
		}
		if err := d.check(e.Key, e.Value, e.Delete, e.Group, groups); err != nil {
			return n, bad(r.Offset(), "key group %d, entry %d, state %q: %w", e.Group, n, e.State, err)
		}
		count[e.State]++
	}
	if r.Err() == nil && n != ref.GetEntries() {
		return n, bad(0, "it has %d entries, its manifest says %d", n, ref.GetEntries())
	}
	return n, r.Err()
}
