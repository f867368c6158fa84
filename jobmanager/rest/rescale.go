package rest

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/dispatch"
)

// bounds is the parallelism that a vertex may have, in Flink's shape.
type bounds struct {
	Parallelism struct {
		Lower int `json:"lowerBound"`
		Upper int `json:"upperBound"`
	} `json:"parallelism"`
}

// requirements are the parallelism in force, as upper bounds, and the lower ones
// that were set; a rescale to less goes before those.
func (s *Server) requirements(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	o, lower := obj{}, s.d.LowerBounds(v.ID)
	for _, g := range v.Graph.GetVertices() {
		o[g.GetId()] = obj{"parallelism": obj{"lowerBound": max(1, min(lower[g.GetId()], g.GetParallelism())), "upperBound": g.GetParallelism()}}
	}
	return o, nil
}

// setRequirements keeps the bounds and rescales a job towards the upper ones, as
// far as there are slots now; for those that the lower ones need it waits. It
// answers as Flink does, once the request is taken; what becomes of it is among
// the job's recoveries.
func (s *Server) setRequirements(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	var body map[string]bounds
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return nil, api.Errorf(api.BadRequest, "no vertex is named").With(`Send {"<vertex id>": {"parallelism": {"lowerBound": 1, "upperBound": 4}}, ...}`)
	}
	wanted, err := byID(v, body)
	if err != nil {
		return nil, err
	}
	target := s.within(v, wanted)
	if err := rescalable(v, job.RescaleRequested{Vertices: target}); err != nil {
		return nil, err
	}
	lower := s.d.LowerBounds(v.ID)
	if lower == nil {
		lower = map[string]uint32{}
	}
	for id, b := range wanted {
		lower[id] = uint32(b.Parallelism.Lower)
	}
	if err := s.d.Require(r.Context(), v.ID, lower); err != nil {
		return nil, err
	}
	if _, err := s.triggers.start("rescale", v.ID, "", rescale(v.Job, 0, target)); err != nil {
		return nil, err
	}
	return obj{}, nil
}

// byID has bounds by vertex id, whatever their sender called the vertices. A
// lower bound of -1 is Flink's word for none.
func byID(v view, body map[string]bounds) (map[string]bounds, error) {
	all, by := map[string]bounds{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(body)) {
		b := body[name]
		p := &b.Parallelism
		if p.Lower == -1 {
			p.Lower = 1
		}
		if p.Lower < 1 || p.Upper < p.Lower {
			return nil, api.Errorf(api.ParallelismInvalid, "vertex %s: parallelism from %d to %d: the lower bound is at least 1, and the upper at least the lower", name, p.Lower, p.Upper)
		}
		vertex, err := job.VertexNamed(v.Graph, name)
		if err != nil {
			return nil, dispatch.AsError(err)
		}
		id := vertex.GetId()
		if other, ok := by[id]; ok && all[id] != b {
			return nil, api.Errorf(api.ParallelismInvalid, "%q and %q are one vertex, %q, and cannot have different bounds: give one", other, name, vertex.GetName())
		}
		all[id], by[id] = b, name
	}
	return all, nil
}

// within chooses from bounds: the upper ones, or as much as the slots that the
// job holds and those that are free allow.
func (s *Server) within(v view, wanted map[string]bounds) map[string]int {
	_, _, slots := s.d.Slots()
	for _, w := range v.Workers {
		slots += len(w.Slots)
	}
	target := map[string]int{}
	for id, b := range wanted {
		target[id] = max(b.Parallelism.Lower, min(b.Parallelism.Upper, slots))
	}
	return target
}

// rescalable says at once what the master would say later.
func rescalable(v view, r job.RescaleRequested) error {
	if v.State.Terminal() {
		return api.Errorf(api.JobEnded, "job %s (%s) is %s", v.ID, v.Submitted.GetName(), v.State)
	}
	if v.Stopping != "" {
		return api.Errorf(api.JobStopping, "job %s is about to %s", v.ID, v.Stopping)
	}
	if v.Rescaling != nil {
		return api.Errorf(api.RescaleInProgress, "job %s is being rescaled already: %s", v.ID, v.Waiting)
	}
	_, err := job.Target(v.Submitted.GetGraph(), job.ParallelismOf(v.Graph), r.Parallelism, r.Vertices)
	return dispatch.AsError(err)
}

func rescale(j *dispatch.Job, parallelism int, vertices map[string]int) func(context.Context) (obj, error) {
	return func(ctx context.Context) (obj, error) {
		res, err := j.Rescale(ctx, parallelism, vertices)
		if err != nil {
			return nil, err
		}
		return obj{"parallelism": res.Parallelism, "pause-ms": res.Pause.Milliseconds()}, nil
	}
}

// startRescale is polled for; PUT resource-requirements is not.
func (s *Server) startRescale(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Parallelism int            `json:"parallelism"`
		Vertices    map[string]int `json:"vertices"`
		TriggerID   string         `json:"triggerId"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if q := r.URL.Query().Get("parallelism"); q != "" {
		if body.Parallelism, err = strconv.Atoi(q); err != nil {
			return nil, api.Errorf(api.BadRequest, "parallelism=%q is no number", q)
		}
	}
	if body.Parallelism == 0 && len(body.Vertices) == 0 {
		return nil, api.Errorf(api.ParallelismInvalid, "no parallelism is given, or it is 0")
	}
	if !s.triggers.known("rescale", v.ID, body.TriggerID) {
		if err := rescalable(v, job.RescaleRequested{Parallelism: body.Parallelism, Vertices: body.Vertices}); err != nil {
			return nil, err
		}
	}
	return s.triggers.start("rescale", v.ID, body.TriggerID, rescale(v.Job, body.Parallelism, body.Vertices))
}

func (s *Server) rescaleStatus(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	return s.triggers.poll("rescale", j.ID, r, "failure-cause")
}

// rescaling is a change of parallelism under way, for a job's details.
func rescaling(v view) obj {
	r := v.Rescaling
	o := obj{"step": r.Step, "asked": r.Asked.UnixMilli(), "slots-needed": r.Slots, "slots-held": r.Held, "parallelism": r.To}
	if r.Free >= 0 {
		o["slots-free"] = r.Free
	}
	return o
}

// rescales are those that are over, oldest first.
func rescales(v view) []obj {
	list := []obj{}
	for _, r := range slices.Backward(v.Rescales) {
		o := obj{"began": r.Asked.UnixMilli(), "took": r.Took.Milliseconds(), "from": r.From, "to": r.To, "slots": r.Slots}
		for name, d := range map[string]time.Duration{"pause": r.Pause, "checkpoint": r.Checkpoint} {
			if d > 0 {
				o[name] = d.Milliseconds()
			}
		}
		if r.Epoch > 0 {
			o["epoch"] = r.Epoch
		}
		if r.Err != nil {
			o["failure-cause"] = failure(api.FromProto(r.Err))
		}
		list = append(list, o)
	}
	return list
}
