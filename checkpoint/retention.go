package checkpoint

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Objects lists the bucket keys that a manifest names, sorted, each once.
func Objects(m *pb.Manifest) []string {
	return slices.Sorted(maps.Keys(objectsOf(m)))
}

func objectsOf(m *pb.Manifest) map[string]bool {
	objects := map[string]bool{}
	for _, o := range m.GetOperators() {
		for _, run := range o.GetRuns() {
			if run.GetObject() != "" {
				objects[run.GetObject()] = true
			}
		}
	}
	return objects
}

// keep takes a completed checkpoint among the retained.
func (c *Coordinator) keep(key string, m *pb.Manifest) {
	k := kept{key: key, objects: objectsOf(m)}
	c.kept = append(c.kept, k)
	for object := range k.objects {
		if strings.HasPrefix(object, JobPrefix(c.cfg.Job)) {
			c.objects[object] = true
		}
	}
}

// retain takes a checkpoint in that has just completed, lets the oldest go
// and deletes what no retained manifest names. Every known object was written
// for this checkpoint or an earlier one, and a chain of runs only ever grows
// at its new end or is replaced: what this one does not name no later one will.
func (c *Coordinator) retain(key string, m *pb.Manifest) {
	c.keep(key, m)
	var gone []string
	for len(c.kept) > c.cfg.Retained {
		gone = append(gone, c.kept[0].key)
		c.hist.discard(c.kept[0].key)
		c.kept = c.kept[1:]
	}
	for object := range c.objects {
		if !slices.ContainsFunc(c.kept, func(k kept) bool { return k.objects[object] }) {
			gone = append(gone, object)
			delete(c.objects, object)
			if c.isMerged(object) {
				c.merged = append(c.merged, object)
			}
		}
	}
	if n := len(c.merged) - mostMerged; n > 0 {
		c.merged = slices.Delete(c.merged, 0, n)
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		c.emit(Delete{Keys: gone})
	}
}

// mostMerged bounds the merged objects that are remembered as deleted: an attempt
// may live for months and merge all the time. Only a worker that is wrong names one,
// and with the chain that it had, so a recent one.
const mostMerged = 256

// scrap marks what an aborted checkpoint may have left. A worker that had
// already written its part goes on to name it in the next one, which decides.
func (c *Coordinator) scrap(p pending) {
	for i := range c.workers {
		c.objects[fmt.Sprintf("%s%d", p.fresh, i)] = true
	}
	if p.manifest != nil {
		c.objects[p.key] = true
	}
}
