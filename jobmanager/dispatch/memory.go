package dispatch

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/api"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// largestShown is how many tasks the message of a worker without memory names.
const largestShown = 3

// explainMemory adds to the end of a worker for want of memory what the worker
// last said of itself: its heap, and which of its tasks hold most state. The
// task manager knows processes only.
func (d *Dispatcher) explainMemory(x *pb.WorkerExited) {
	e := x.GetError()
	if e.GetCode() != string(api.MemoryExceeded) {
		return
	}
	j, err := d.Job(x.GetJobId())
	if err != nil {
		return
	}
	names := map[string]*pb.Vertex{}
	for _, v := range j.Submitted.GetGraph().GetVertices() {
		names[v.GetId()] = v
	}
	var parts []string
	for _, p := range d.rates.Processes(j.ID) {
		if p.Worker == x.GetWorkerId() {
			parts = append(parts, fmt.Sprintf("a heap of %d MiB", p.GetHeapBytes()>>20))
		}
	}
	tasks, vertices := d.rates.Largest(j.ID, x.GetWorkerId(), largestShown)
	for i, t := range tasks {
		parts = append(parts, fmt.Sprintf("%d MiB of keyed state (%d entries) in %s, subtask %d",
			t.InMemory()>>20, t.Last.GetKeyedEntries(), names[vertices[i]].GetName(), t.Last.GetSubtask()))
	}
	if len(parts) == 0 {
		return
	}
	e.Message += "\nIt last reported " + strings.Join(parts, ", ") + "."
}
