package worker

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// merges keep the collector's chains short, beside checkpoints: what is merged
// are runs of a completed checkpoint, and the result takes their place in a
// later one. However long a merge takes, no ack waits for it; deltas go on being
// appended behind the runs that it reads.
//
// One merge runs at a time. Its result lies in an object of its own, unless it
// is small, and in ready until a completed checkpoint names it; a checkpoint that
// is given up changes nothing. If the chain goes another way meanwhile, the
// object is deleted again. All of this is the collector's goroutine's, but the
// merge itself.
type merges struct {
	// under is the object of the merge under way, empty for none.
	under string
	// rest is how many completed checkpoints to wait for after a failure.
	rest  int
	count int
	last  checkpoint.ID
	ready map[place]*merged
	live  map[place]live
}

// merged is what some runs of a chain became.
type merged struct {
	runs []*pb.RunRef
	ref  *pb.RunRef
	run  snapshot.Run // where ref names no object
}

// live is what is known of the size of a place's state.
type live struct {
	groups keygroup.Range
	bytes  uint64
	// full is the size of the last full run, which was of so many bytes as the
	// store counts them.
	full, of uint64
}

// size is what a full run would have.
func (l live) size() uint64 {
	if l.of == 0 {
		return l.bytes
	}
	return uint64(float64(l.bytes) * float64(l.full) / float64(l.of))
}

const mergeRest = 8

// identity tells runs apart. It is not where a run lies: an inline one may
// move to an object.
type identity struct {
	checkpoint, length uint64
	first, last, crc   uint32
}

func identityOf(r *pb.RunRef) identity {
	return identity{r.GetCheckpoint(), r.GetLength(), r.GetKeyGroupFirst(), r.GetKeyGroupLast(), r.GetCrc32C()}
}

// indexOf is where runs are in a chain, one after the other; -1 if they are not.
func indexOf(chain, runs []*pb.RunRef) int {
	for i := range max(len(chain)-len(runs)+1, 0) {
		if slices.EqualFunc(chain[i:i+len(runs)], runs, func(a, b *pb.RunRef) bool { return identityOf(a) == identityOf(b) }) {
			return i
		}
	}
	return -1
}

// mostNarrow is how long the part of a chain may get that only a full merge makes
// shorter.
const mostNarrow = 64

// choose says which runs of a chain to merge. After a rescale, a run may speak for
// more key groups than the chain does: it counts whole, for who else has it in
// a chain may let it go first. One that speaks for fewer can only become part of
// a full run: nothing else says for which groups its drops are. Where nothing is
// ever dead they would become more with each rescale.
func choose(chain []*pb.RunRef, groups keygroup.Range, size uint64) (from int, merge bool) {
	sizes := make([]uint64, 0, len(chain))
	narrow := 0
	for i, ref := range chain {
		sizes = append(sizes, ref.GetLength())
		if int(ref.GetKeyGroupFirst()) > groups.First || int(ref.GetKeyGroupLast()) < groups.Last {
			narrow = i + 1
		}
	}
	if narrow > mostNarrow {
		return 0, true
	}
	from, merge = snapshot.Choose(sizes, size)
	if merge && from > 0 && from < narrow {
		from = narrow
		merge = len(chain)-from >= 2
	}
	return from, merge
}

// note takes in what an ack says of the size of a place's state.
func (m *merges) note(at place, groups keygroup.Range, bytes uint64, full bool, run snapshot.Run) {
	l := m.live[at]
	l.groups, l.bytes = groups, bytes
	if full && bytes > 0 {
		l.full, l.of = uint64(run.Size()), bytes
	}
	m.live[at] = l
}

// put is a chain with the merged runs in the place of those that they were.
func (m *merges) put(at place, chain []*pb.RunRef) (out []*pb.RunRef, fresh []piece) {
	if r := m.ready[at]; r != nil {
		if i := indexOf(chain, r.runs); i >= 0 {
			ref := proto.CloneOf(r.ref)
			if ref.GetObject() == "" {
				fresh = append(fresh, piece{ref, r.run})
			}
			chain = slices.Concat(chain[:i], []*pb.RunRef{ref}, chain[i+len(r.runs):])
		}
	}
	return chain, fresh
}

// settleMerges looks at the results of merges after a checkpoint completed: it
// names them, will do so later, or does not need them any more.
func (c *collector) settleMerges() {
	for at, r := range c.merges.ready {
		chain := c.chains[at]
		switch {
		case indexOf(chain, []*pb.RunRef{r.ref}) >= 0:
		case indexOf(chain, r.runs) >= 0:
			continue
		default:
			c.discard(r.ref.GetObject())
		}
		delete(c.merges.ready, at)
	}
}

// discard deletes an object that no checkpoint ever named. If that fails, it
// goes with what this attempt leaves behind.
func (c *collector) discard(object string) {
	if object == "" {
		return
	}
	c.a.spawn(func() {
		if err := c.a.w.cfg.Bucket.Delete(c.a.ctx, object); err != nil {
			c.a.w.cfg.Log.Warn("object was not deleted", "object", object, "error", err)
		}
	})
}

// beginMerge starts the next merge that is due.
func (c *collector) beginMerge() {
	m := &c.merges
	if m.under != "" || m.rest > 0 || c.a.w.cfg.unmerged {
		return
	}
	places := slices.SortedFunc(maps.Keys(m.live), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.uid, b.uid), cmp.Compare(a.subtask, b.subtask))
	})
	for _, at := range places {
		if m.ready[at] != nil {
			continue
		}
		chain, l := c.chains[at], m.live[at]
		from, due := choose(chain, l.groups, l.size())
		if !due {
			continue
		}
		m.count++
		object := checkpoint.MergedObject(c.a.deploy.GetStatePrefix(), m.last, c.a.deploy.GetSelf(), m.count)
		m.under = object
		runs := slices.Clone(chain[from:])
		c.a.spawn(func() {
			result, err := c.merge(c.a.ctx, runs, l.groups, from == 0, object)
			if err != nil { // said here, for the attempt may end before the collector hears of it
				c.a.w.cfg.Log.Warn("runs were not merged; they stay as they are", "operator", at.uid, "subtask", at.subtask, "error", err)
			}
			c.post(func(context.Context) { c.endMerge(at, l, from == 0, result, err) })
		})
		return
	}
}

// mergeLimit is how long a merge may take: one whose bucket does not answer is
// given up, and tried again later.
const mergeLimit = 10 * time.Minute

// merge merges runs, off the collector's goroutine.
func (c *collector) merge(ctx context.Context, runs []*pb.RunRef, groups keygroup.Range, full bool, object string) (*merged, error) {
	ctx, cancel := context.WithTimeout(ctx, mergeLimit)
	defer cancel()
	m := snapshot.Merger{Opener: c.a.opener(), Scratch: c.a.w.scratch(), Groups: groups.N, First: groups.First, Last: groups.Last}
	run, err := m.Merge(ctx, runs, snapshot.Run{}, full)
	if err != nil {
		return nil, err
	}
	ref := run.Ref("", 0)
	ref.Checkpoint = runs[len(runs)-1].GetCheckpoint()
	if run.Size() < int64(c.a.w.cfg.InlineLimit) {
		return &merged{runs: runs, ref: ref, run: run}, nil
	}
	ref.Object = object
	defer func() { _ = run.Close() }()
	if err := c.upload(ctx, object, run.Open, run.Size()); err != nil {
		return nil, err
	}
	return &merged{runs: runs, ref: ref}, nil
}

func (c *collector) endMerge(at place, l live, full bool, result *merged, err error) {
	m := &c.merges
	m.under = ""
	if err != nil {
		m.rest = mergeRest
		return
	}
	if full && l.bytes > 0 {
		now := m.live[at]
		now.full, now.of = result.ref.GetLength(), l.bytes
		m.live[at] = now
	}
	if indexOf(c.chains[at], result.runs) < 0 {
		c.discard(result.ref.GetObject())
	} else {
		m.ready[at] = result
	}
	c.beginMerge()
}

// upload puts an object and keeps a copy of it.
func (c *collector) upload(ctx context.Context, key string, body func() io.Reader, size int64) error {
	pause := uploadPause
	for try := 1; ; try++ {
		err := c.a.w.cfg.Bucket.Put(ctx, key, body(), size)
		if err == nil {
			break
		}
		if try == uploadTries || ctx.Err() != nil {
			return failf("bucket-unavailable", "write %s, %d tries: %w", key, try, err)
		}
		c.a.w.cfg.Log.Warn("state was not written; trying again", "object", key, "try", try, "error", err)
		c.a.pause(ctx, pause)
		pause *= 2
	}
	if c.a.w.copies != nil {
		c.a.w.copies.write(ctx, c.a.w.cfg.Bucket, key, body)
	}
	return nil
}
