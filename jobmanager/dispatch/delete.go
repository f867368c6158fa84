package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/job"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter deletes what nothing needs any more, beside everything else. A
// deletion that fails is repeated for as long as this leader leads. Of a job that
// goes on, another leader's sweeps find what is left; what is left of a job that
// has ended, or of a savepoint, the journal remembers until it is gone.

// deletion is what a job wants deleted; job is nil where it is a user's wish, or
// an earlier leader's. Prefixes are needless in the journal.
type deletion struct {
	job.DeleteObjects
	job *Job
}

// Bounds of the repetition: the pause doubles from the first to the longest while
// deletions fail; one that does not answer is given up after deleteWait. No more
// keys are remembered than that: those beyond are left behind, and said so.
const (
	firstDeleteRetry = time.Second
	mostDeleteRetry  = 5 * time.Minute
	deleteWait       = time.Minute
	maxUndeleted     = 1 << 16
)

// deleteObjects carries out deletions, one by one, until ctx ends.
func (d *Dispatcher) deleteObjects(ctx context.Context) {
	again := alarm{clock: d.cfg.Clock, ring: make(chan struct{}, 1)}
	defer again.stop()
	var failed []deletion
	pause := firstDeleteRetry
	for {
		var todo []deletion
		select {
		case <-ctx.Done():
			return
		case <-d.deletions.ready:
			todo = d.deletions.take()
		case <-again.ring:
			again.rang()
			todo, failed = failed, nil
			pause = min(2*pause, mostDeleteRetry)
		}
		for _, del := range todo {
			if left, ok := d.delete(ctx, del); !ok {
				failed = append(failed, left)
			}
		}
		if failed = d.bounded(failed); len(failed) == 0 {
			pause = firstDeleteRetry
			again.stop()
		} else if again.at.IsZero() {
			again.set(d.Now().Add(pause), true)
		}
	}
}

// delete carries one deletion out; where that fails, it returns what is left.
func (d *Dispatcher) delete(ctx context.Context, del deletion) (left deletion, done bool) {
	left.job = del.job
	var why error
	if !d.taken(del.job) {
		left.Keys, why = d.deleteKeys(ctx, del.Keys)
	}
	for _, prefix := range del.Prefixes {
		if !d.needless(prefix) {
			continue
		}
		keys, err := d.list(ctx, prefix)
		if err == nil {
			_, err = d.deleteKeys(ctx, own(prefix, keys))
		}
		if err != nil {
			why = cmp.Or(why, err)
			left.Prefixes = append(left.Prefixes, prefix)
			continue
		}
		d.emptied(ctx, prefix)
	}
	if why != nil && ctx.Err() == nil {
		d.cfg.Log.Warn("objects were not deleted; trying again", "objects", len(left.Keys), "prefixes", left.Prefixes, "error", why)
	}
	return left, why == nil
}

// own are the keys below a prefix that go with it: all of a job's, but of a
// savepoint those that lie beside its manifest. Folders there may hold savepoints
// that were taken into this one's folder.
func own(prefix string, keys []string) []string {
	if strings.HasPrefix(prefix, "jobs/") { // refused as a savepoint directory
		return keys
	}
	return slices.DeleteFunc(keys, func(key string) bool { return strings.Contains(key[len(prefix):], "/") })
}

// deleteKeys returns those that were not deleted, and why the first was not.
func (d *Dispatcher) deleteKeys(ctx context.Context, keys []string) (left []string, why error) {
	for i, key := range keys {
		err := d.deleteOne(ctx, key)
		if err == nil {
			continue
		}
		why = cmp.Or(why, err)
		left = append(left, key)
		if errors.Is(err, context.DeadlineExceeded) { // the others would take as long
			return append(left, keys[i+1:]...), why
		}
	}
	return left, why
}

// needless says that the journal has a prefix as one to be emptied. It has not if
// a later job took the id of one that was forgotten, and so its prefix.
func (d *Dispatcher) needless(prefix string) (is bool) {
	d.journal.View(func(fold *pb.JournalSnapshot) { is = slices.Contains(fold.GetNeedless(), prefix) })
	return is
}

// emptied journals that nothing is left under a prefix. Without the record the next
// leader looks there once more.
func (d *Dispatcher) emptied(ctx context.Context, prefix string) {
	err := d.journal.Append(ctx, &pb.JournalRecord{Body: &pb.JournalRecord_ObjectsDeleted{ObjectsDeleted: &pb.ObjectsDeleted{Prefix: prefix}}})
	if err != nil && ctx.Err() == nil {
		d.cfg.Log.Warn("the journal does not know that objects are deleted", "prefix", prefix, "error", err)
	}
}

// taken says that a later job has the id, and so the keys, of one that has been
// forgotten.
func (d *Dispatcher) taken(j *Job) bool {
	if j == nil {
		return false
	}
	now, err := d.Job(j.ID)
	return err == nil && now != j
}

func (d *Dispatcher) list(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, deleteWait)
	defer cancel()
	return blob.Keys(ctx, d.cfg.Bucket, prefix)
}

func (d *Dispatcher) deleteOne(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, deleteWait)
	defer cancel()
	return d.cfg.Bucket.Delete(ctx, key)
}

// bounded forgets what is too much to remember.
func (d *Dispatcher) bounded(failed []deletion) []deletion {
	n := 0
	for i, del := range failed {
		if n += max(1, len(del.Keys)); n > maxUndeleted {
			d.cfg.Log.Error("too many objects could not be deleted; the rest is left behind", "remembered", maxUndeleted, "deletions", len(failed)-i)
			return failed[:i]
		}
	}
	return failed
}
