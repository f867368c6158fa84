package operator

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/internal/planted"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/sink"
	"github.com/millrace/millrace/runtime/source"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// SourceRole is what of a source runs once a job, on goroutines of one worker.
// It is in graph.Node.Roles.
type SourceRole interface {
	// Enumerate lists the splits that can be read and spreads them over the
	// subtasks. Known splits, from the restored checkpoint, keep their state; those
	// that the source no longer names stay assigned as long as they are not finished.
	// New ones are among them if their parents are finished.
	Enumerate(ctx context.Context, env source.Env, known []*pb.Split, parallelism int) ([]*pb.SplitAssignment, error)
	// Followers lists, once more, the new splits whose parents are finished, each
	// with the watermark of the parent furthest behind.
	Followers(ctx context.Context, env source.Env, known []*pb.Split) ([]*pb.Split, error)
	// Tips finds where each split ends now. It answers with none where the
	// source has no tips: then a drain ends wherever its readers stand, or,
	// for a bounded source, at its end.
	Tips(ctx context.Context, env source.Env, splits []*pb.Split) ([]*pb.DrainPosition, error)
}

// SinkRole is what of a transactional sink runs once a job, on a goroutine of
// one worker, one call at a time.
type SinkRole = sink.Transactional

// NewSourceRole returns the role of a source for graph.Node.Roles.
func NewSourceRole[T any](src source.Source[T]) SourceRole { return &sourceRole[T]{src: src} }

// NewSinkRole returns the role of a sink, nil if it is not transactional.
func NewSinkRole[T any](s sink.Sink[T]) SinkRole {
	t, _ := s.(sink.Transactional)
	return t
}

type sourceRole[T any] struct {
	src source.Source[T]
}

func (r *sourceRole[T]) Enumerate(ctx context.Context, env source.Env, known []*pb.Split, parallelism int) ([]*pb.SplitAssignment, error) {
	if parallelism < 1 {
		return nil, fmt.Errorf("enumerate the splits of %s: parallelism %d, want at least 1", env.Operator, parallelism)
	}
	all, fresh, followed, err := r.list(ctx, env, known)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		k.Followed = k.Followed && !followed[k.Id]
	}
	return assign(append(all, fresh...), parallelism), nil
}

func (r *sourceRole[T]) Followers(ctx context.Context, env source.Env, known []*pb.Split) ([]*pb.Split, error) {
	_, fresh, _, err := r.list(ctx, env, known)
	return fresh, err
}

// list asks the source for its splits: the known ones that are still of use, the
// new ones that can be read now, and which have followers that are known or new.
func (r *sourceRole[T]) list(ctx context.Context, env source.Env, known []*pb.Split) (all, fresh []*pb.Split, followed map[string]bool, err error) {
	before := make([]source.Split, len(known))
	state := make(map[string]*pb.Split, len(known))
	known = slices.Clone(known) // what a caller in the same process gave is also its tasks'
	for i := range known {
		known[i] = proto.CloneOf(known[i])
		k := known[i]
		before[i] = source.Split{ID: k.Id, Payload: k.Payload, Parents: k.Parents, Finished: k.Finished}
		state[k.Id] = k
	}
	listed, err := r.src.Splits(ctx, env, before)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("enumerate the splits of %s: %w", env.Operator, err)
	}
	named := make(map[string]bool, len(listed))
	for _, s := range listed {
		if named[s.ID] {
			return nil, nil, nil, fmt.Errorf("enumerate the splits of %s: two splits have the id %q", env.Operator, s.ID)
		}
		named[s.ID] = true
	}
	followed = make(map[string]bool)
	for _, s := range listed {
		k := state[s.ID]
		if k == nil {
			if k = begin(s, state, named); k == nil {
				continue
			}
			fresh = append(fresh, k)
		} else {
			k.Payload, k.Parents = s.Payload, s.Parents
			all = append(all, k)
		}
		for _, p := range s.Parents {
			followed[p] = true
		}
	}
	for _, k := range known {
		if !named[k.Id] && !k.Finished {
			all = append(all, k)
		}
	}
	return all, fresh, followed, nil
}

// begin makes the state of a new split, nil while a parent of it is to be read.
// Its event time is that of the parent furthest behind.
func begin(s source.Split, state map[string]*pb.Split, named map[string]bool) *pb.Split {
	watermark := int64(batch.NoTime)
	for i, p := range s.Parents {
		k := state[p]
		switch {
		case (k == nil && named[p] || k != nil && !k.Finished) && !planted.ChildrenBesideParents:
			return nil
		case k == nil:
			watermark = batch.NoTime
		case i == 0:
			watermark = k.Watermark
		default:
			watermark = min(watermark, k.Watermark)
		}
	}
	return &pb.Split{Id: s.ID, Payload: s.Payload, Watermark: watermark, Parents: s.Parents}
}

// assign spreads splits over subtasks: in order of their ids, one after the
// other, those first that are to be read, so that every worker and every attempt
// finds the same answer. The uid is the caller's to fill in.
func assign(splits []*pb.Split, parallelism int) []*pb.SplitAssignment {
	slices.SortFunc(splits, func(a, b *pb.Split) int {
		if a.Finished != b.Finished {
			if b.Finished {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Id, b.Id)
	})
	out := make([]*pb.SplitAssignment, parallelism)
	for i := range out {
		out[i] = &pb.SplitAssignment{Subtask: uint32(i)}
	}
	for i, s := range splits {
		a := out[i%parallelism]
		a.Splits = append(a.Splits, s)
	}
	return out
}

func (r *sourceRole[T]) Tips(ctx context.Context, env source.Env, splits []*pb.Split) ([]*pb.DrainPosition, error) {
	tipper, ok := r.src.(source.Tipper)
	if !ok {
		return nil, nil
	}
	tips := make([]*pb.DrainPosition, 0, len(splits))
	for _, s := range splits {
		at, err := tipper.Tip(ctx, env, source.Split{ID: s.Id, Payload: s.Payload})
		if err != nil {
			return nil, fmt.Errorf("find the tip of split %s of %s: %w", s.Id, env.Operator, err)
		}
		tips = append(tips, &pb.DrainPosition{Split: s.Id, Position: at})
	}
	return tips, nil
}
