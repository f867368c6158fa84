package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/sdk"
)

// moves is how many parts are moved at a time.
const moves = 8

// committer settles transactions for one attempt. The invariants are those of
// the ledger.
type committer struct {
	bucket *place
	env    sdk.SinkEnv
}

// recover raises the fence, commits what the checkpoint holds, and removes what
// lower epochs of this lineage and sink left.
func (c *committer) recover(ctx context.Context, handles []sdk.Handle) error {
	err := change(ctx, c.bucket, c.env.Lineage, c.env.UID, func(l *ledger) (bool, error) {
		if l.Fence > c.env.Epoch {
			return false, c.stale(l.Fence)
		}
		raised := l.Fence < c.env.Epoch
		l.Fence = c.env.Epoch
		return raised, nil
	})
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if err := c.commit(ctx, handles); err != nil {
		return err
	}
	if err := c.sweep(ctx); err != nil {
		return fmt.Errorf("remove what no checkpoint holds: %w", err)
	}
	return nil
}

func (c *committer) stale(fence uint64) error {
	return sdk.Stale(fmt.Errorf("epoch %d of sink %s is over: epoch %d has taken over", c.env.Epoch, c.env.UID, fence))
}

// sweep removes staged parts of epochs below this one.
func (c *committer) sweep(ctx context.Context) error {
	prefix := staging + "/" + idOf(c.env.Lineage, c.env.UID) + "/"
	var old []string
	err := c.bucket.List(ctx, prefix, func(i blob.Info) error {
		epoch, _, _ := strings.Cut(strings.TrimPrefix(i.Key, prefix), "/")
		if n, err := strconv.ParseUint(epoch, 10, 64); err == nil && n < c.env.Epoch {
			old = append(old, i.Key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(moves)
	for _, key := range old {
		g.Go(func() error { return c.bucket.Delete(ctx, key) })
	}
	return g.Wait()
}

// commit commits handles: of this lineage, or of the one that a savepoint was
// taken by from which this job forked.
func (c *committer) commit(ctx context.Context, sent []sdk.Handle) error {
	type sink struct{ lineage, uid string }
	bySink := map[sink][]*handle{}
	for _, raw := range sent {
		h, err := decodeHandle(raw.Value)
		if err != nil {
			return sdk.Refused(fmt.Errorf("the handle of subtask %d: %w", raw.Subtask, err))
		}
		at := sink{h.lineage, h.sink}
		bySink[at] = append(bySink[at], h)
	}
	for at, handles := range bySink {
		slices.SortFunc(handles, func(a, b *handle) int {
			return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.subtask, b.subtask), cmp.Compare(a.number, b.number))
		})
		if err := c.enter(ctx, at.lineage, at.uid, handles); err != nil {
			return err
		}
		if err := c.publish(ctx, handles); err != nil {
			return err
		}
	}
	return nil
}

// enter writes transactions into their ledger, which is the moment at which they
// are committed.
func (c *committer) enter(ctx context.Context, lineage, uid string, handles []*handle) error {
	return change(ctx, c.bucket, lineage, uid, func(l *ledger) (bool, error) {
		if lineage == c.env.Lineage && l.Fence > c.env.Epoch {
			return false, c.stale(l.Fence)
		}
		var fresh []*handle
		for _, h := range handles {
			if h.epoch > l.Forgotten && !l.has(h) {
				fresh = append(fresh, h)
			}
		}
		if len(fresh) == 0 {
			return false, nil
		}
		if err := c.allStaged(ctx, fresh); err != nil {
			return false, err
		}
		for _, h := range fresh {
			l.enter(h)
		}
		return true, nil
	})
}

// allStaged checks that every part is there, whole.
func (c *committer) allStaged(ctx context.Context, handles []*handle) error {
	sizes := map[string]uint64{}
	listed := map[string]bool{}
	for _, h := range handles {
		folder := stagedFolder(h.id(), h.epoch)
		if !listed[folder] {
			listed[folder] = true
			err := c.bucket.List(ctx, folder, func(i blob.Info) error {
				sizes[i.Key] = uint64(i.Size)
				return nil
			})
			if err != nil {
				return err
			}
		}
		for _, p := range h.parts {
			switch size, ok := sizes[folder+p.from]; {
			case !ok:
				return sdk.Refused(fmt.Errorf("%s, which the checkpoint holds, is gone from %s: "+
					"it was removed by hand, by a job that went back to an older savepoint, or the folder is not the same one on every machine", p.to, folder+p.from))
			case size != p.size:
				return sdk.Refused(fmt.Errorf("%s has %d bytes, the checkpoint names %d", folder+p.from, size, p.size))
			}
		}
	}
	return nil
}

// publish moves the parts of committed transactions that are still staged. One
// that is not was moved before, and may have been taken away by its reader.
func (c *committer) publish(ctx context.Context, handles []*handle) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(moves)
	for _, h := range handles {
		folder := stagedFolder(h.id(), h.epoch)
		for _, p := range h.parts {
			g.Go(func() error {
				if err := blob.Move(ctx, c.bucket.Bucket, folder+p.from, p.to); err != nil && !errors.Is(err, blob.ErrNotFound) {
					return fmt.Errorf("publish %s: %w", p.to, err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}
