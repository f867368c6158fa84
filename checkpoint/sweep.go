package checkpoint

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// How objects that nobody remembers are found.
//
// Retention deletes what it knows. What a leader knew dies with it, and a
// worker may die between writing an object and naming it. So the coordinator has
// the job's prefix listed, once an attempt has completed a checkpoint and every
// SweepEvery from then on, and deletes what was written under an earlier epoch
// and is named by no retained manifest:
//
//   - An object of the running epoch may be one that is about to be named. Its
//     orphans wait for the next epoch, which comes with whatever made them: the
//     loss of a worker or a leader.
//   - One of a later epoch belongs to a leader of which this one does not know yet.
//   - The attempts of earlier epochs are over. What they wrote and a retained
//     manifest does not name, no later one will: chains begin with a retained
//     checkpoint. What a zombie of theirs writes later is found by the next sweep.
//   - Retained manifests that could not be read when the coordinator began may
//     name anything. Nothing is swept until as many newer ones are complete as are
//     retained: by then none of the old ones is.
//
// Only keys of a form that the job's own writers give are ever deleted.

// SweepEvery is the time between two sweeps of one attempt.
const SweepEvery = 10 * time.Minute

// sweep asks for a list if it is time for one. A checkpoint has just completed.
func (c *Coordinator) sweep(now time.Time) {
	c.done++
	if c.done < c.cfg.Retained || c.sweptEpoch == c.epoch && now.Before(c.swept.Add(SweepEvery)) {
		return
	}
	c.swept, c.sweptEpoch = now, c.epoch
	c.emit(List{Prefix: JobPrefix(c.cfg.Job)})
}

// listed deletes what no retained manifest names and no attempt will.
func (c *Coordinator) listed(keys []string) {
	var gone []string
	for _, key := range keys {
		epoch, ok := epochOf(c.cfg.Job, key)
		if !ok || epoch >= c.epoch || c.pending.key == key || c.objects[key] {
			continue // what is in objects, as all that is retained, goes by retention
		}
		if slices.ContainsFunc(c.kept, func(k kept) bool { return k.key == key }) {
			continue
		}
		gone = append(gone, key)
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		c.emit(Delete{Keys: gone})
	}
}

// epochOf is the epoch under which an object of a job was written.
func epochOf(job, key string) (epoch uint64, ok bool) {
	rest, ok := strings.CutPrefix(key, JobPrefix(job))
	if !ok {
		return 0, false
	}
	name, ok := strings.CutPrefix(rest, "state/")
	if !ok {
		name, ok = strings.CutPrefix(rest, "checkpoints/")
	}
	if !ok {
		return 0, false
	}
	numbers := strings.Split(name, "-")
	if len(numbers) < 2 || len(numbers) > 4 {
		return 0, false
	}
	for i, s := range numbers {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return 0, false
		}
		if i == 0 {
			epoch = n
		}
	}
	return epoch, true
}
