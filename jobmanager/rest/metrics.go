package rest

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/api"
)

// Figure is one metric with its value.
type Figure struct {
	ID    string
	Value float64
}

// number prints a value as Flink does: whole numbers without a point.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<63 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// asked are the ids of ?get=a,b; nil when all names are asked for.
func asked(r *http.Request) []string {
	if get := r.URL.Query().Get("get"); get != "" {
		return strings.Split(get, ",")
	}
	return nil
}

// metricList answers a metrics path: names, or with ?get= values as text.
// Figures that are not known are left out.
func metricList(r *http.Request, all []Figure) []obj {
	get := asked(r)
	list := []obj{}
	for _, f := range all {
		switch {
		case get == nil:
			list = append(list, obj{"id": f.ID})
		case slices.Contains(get, f.ID):
			list = append(list, obj{"id": f.ID, "value": number(f.Value)})
		}
	}
	return list
}

func subtaskMetric(subtask int, id string) string { return strconv.Itoa(subtask) + "." + id }

func (s *Server) vertexMetrics(r *http.Request) (any, error) {
	v, err := s.vertexView(r)
	if err != nil {
		return nil, err
	}
	var all []Figure
	for i := range int(v.graph.GetParallelism()) {
		for _, val := range s.task(v, i).Values(v.now) {
			all = append(all, Figure{subtaskMetric(i, val.ID()), val.Value})
		}
	}
	return metricList(r, all), nil
}

func (s *Server) subtaskMetrics(r *http.Request) (any, error) {
	v, err := s.vertexView(r)
	if err != nil {
		return nil, err
	}
	i, err := strconv.Atoi(r.PathValue("subtaskindex"))
	if err != nil || i < 0 || i >= int(v.graph.GetParallelism()) {
		return nil, api.Errorf(api.SubtaskNotFound, "vertex %s has no subtask %q", v.graph.GetId(), r.PathValue("subtaskindex"))
	}
	var all []Figure
	for _, val := range s.task(v, i).Values(v.now) {
		all = append(all, Figure{val.ID(), val.Value})
	}
	return metricList(r, all), nil
}

// subtasksMetrics aggregates over subtasks: ?get, ?agg=min,max,avg,sum,skew and
// ?subtasks=0,2-4.
func (s *Server) subtasksMetrics(r *http.Request) (any, error) {
	v, err := s.vertexView(r)
	if err != nil {
		return nil, err
	}
	chosen, err := subtaskRanges(r.URL.Query().Get("subtasks"), int(v.graph.GetParallelism()))
	if err != nil {
		return nil, err
	}
	var order []string
	values := map[string][]float64{}
	for _, i := range chosen {
		for _, val := range s.task(v, i).Values(v.now) {
			id := val.ID()
			if values[id] == nil {
				order = append(order, id)
			}
			values[id] = append(values[id], val.Value)
		}
	}
	return aggregate(r, order, values)
}

func aggregate(r *http.Request, order []string, values map[string][]float64) (any, error) {
	get := asked(r)
	list := []obj{}
	if get == nil {
		for _, id := range order {
			list = append(list, obj{"id": id})
		}
		return list, nil
	}
	aggs := []string{"min", "max", "avg", "sum", "skew"}
	if q := r.URL.Query().Get("agg"); q != "" {
		aggs = strings.Split(q, ",")
	}
	for _, id := range get {
		vs := values[id]
		if len(vs) == 0 {
			continue
		}
		o := obj{"id": id}
		for _, a := range aggs {
			f := aggregates[a]
			if f == nil {
				return nil, api.Errorf(api.BadRequest, "agg=%q: only min, max, avg, sum and skew are known", a)
			}
			o[a] = f(vs)
		}
		list = append(list, o)
	}
	return list, nil
}

func total(vs []float64) (sum float64) {
	for _, v := range vs {
		sum += v
	}
	return sum
}

var aggregates = map[string]func([]float64) float64{
	"min": func(vs []float64) float64 { return slices.Min(vs) },
	"max": func(vs []float64) float64 { return slices.Max(vs) },
	"sum": total,
	"avg": func(vs []float64) float64 { return total(vs) / float64(len(vs)) },
	// skew is the mean distance from the mean, in percent of the mean.
	"skew": func(vs []float64) float64 {
		avg := total(vs) / float64(len(vs))
		if avg == 0 {
			return 0
		}
		d := 0.0
		for _, v := range vs {
			d += math.Abs(v - avg)
		}
		return min(100, 100*d/float64(len(vs))/math.Abs(avg))
	},
}

// subtaskRanges reads "0,2-4"; empty is all.
func subtaskRanges(q string, n int) ([]int, error) {
	var all []int
	if q == "" {
		for i := range n {
			all = append(all, i)
		}
		return all, nil
	}
	for part := range strings.SplitSeq(q, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a {
			return nil, api.Errorf(api.BadRequest, "subtasks=%q: want numbers and ranges such as 0,2-4", q)
		}
		for i := a; i <= min(b, n-1); i++ {
			all = append(all, i)
		}
	}
	return all, nil
}

func (s *Server) jobMetrics(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	return metricList(r, JobFigures(v.Status, v.now)), nil
}
