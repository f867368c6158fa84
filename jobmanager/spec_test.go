package jobmanager

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/api"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// spec is api/openapi.yaml, as far as answers are checked against it.
type spec struct {
	root map[string]any
}

func loadSpec(t *testing.T) spec {
	t.Helper()
	var s spec
	if err := yaml.Unmarshal(api.OpenAPI, &s.root); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s spec) at(path ...string) map[string]any {
	v := s.root
	for _, p := range path {
		v, _ = v[p].(map[string]any)
	}
	return v
}

// schema is what a path answers with JSON; nil for text.
func (s spec) schema(method, path string) map[string]any {
	for status, r := range s.at("paths", path, strings.ToLower(method), "responses") {
		if status[0] != '2' {
			continue
		}
		r, _ := r.(map[string]any)
		content, _ := r["content"].(map[string]any)
		jsonContent, _ := content["application/json"].(map[string]any)
		schema, _ := jsonContent["schema"].(map[string]any)
		return schema
	}
	return nil
}

func (s spec) resolve(schema map[string]any) map[string]any {
	if ref, ok := schema["$ref"].(string); ok {
		return s.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	return schema
}

// check lists where a value differs from its schema. Objects hold required
// properties, and no others than those listed.
func (s spec) check(at string, schema map[string]any, v any) (faults []string) {
	schema = s.resolve(schema)
	fault := func(format string, args ...any) { faults = append(faults, at+": "+fmt.Sprintf(format, args...)) }
	if schema == nil {
		return []string{at + ": no schema"}
	}
	if !hasType(schema["type"], v) {
		fault("%v is no %v", v, schema["type"])
		return faults
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		fault("%v is none of %v", v, enum)
	}
	switch v := v.(type) {
	case []any:
		items, _ := schema["items"].(map[string]any)
		for i, e := range v {
			faults = append(faults, s.check(fmt.Sprintf("%s[%d]", at, i), items, e)...)
		}
	case map[string]any:
		faults = append(faults, s.checkObject(at, schema, v)...)
	}
	return faults
}

func (s spec) checkObject(at string, schema map[string]any, v map[string]any) (faults []string) {
	properties := map[string]any{}
	merge := func(from map[string]any) {
		p, _ := from["properties"].(map[string]any)
		maps.Copy(properties, p)
	}
	merge(schema)
	all, _ := schema["allOf"].([]any)
	for _, a := range all {
		a, _ := a.(map[string]any)
		merge(s.resolve(a))
	}
	required, _ := schema["required"].([]any)
	for _, r := range required {
		if _, ok := v[r.(string)]; !ok {
			faults = append(faults, fmt.Sprintf("%s: %v is missing", at, r))
		}
	}
	more, open := schema["additionalProperties"].(map[string]any)
	for k, e := range v {
		p, known := properties[k].(map[string]any)
		switch {
		case known:
			faults = append(faults, s.check(at+"."+k, p, e)...)
		case open:
			faults = append(faults, s.check(at+"."+k, more, e)...)
		case len(properties) > 0:
			faults = append(faults, fmt.Sprintf("%s: %s is not in the specification", at, k))
		}
	}
	return faults
}

func hasType(want, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return hasType(w, v) })
	}
	switch want {
	case "object":
		_, ok := v.(map[string]any)
		return ok
	case "array":
		_, ok := v.([]any)
		return ok
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "number":
		_, ok := v.(float64)
		return ok
	case "integer":
		f, ok := v.(float64)
		return ok && f == math.Trunc(f)
	case "null":
		return v == nil
	}
	return false
}

// TestAnswersHaveTheFieldsOfTheSpecification asks a running cluster for
// everything that can be asked for.
func TestAnswersHaveTheFieldsOfTheSpecification(t *testing.T) {
	s := loadSpec(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_StreamCall{StreamCall: &pb.StreamCall{Id: 5,
			Command: &pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{Name: "flights", Shards: 2}}}}}})
		jar, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 2") })
		h.crash()
		c.await("the second attempt", func() bool { return h.saw("start epoch 2") })
		c.state(job, "RUNNING")
		c.await("new output to be visible", func() bool {
			r := c.call("GET", rest1+"/jobs/"+job+"/recovery", nil, 200)["recoveries"].([]any)
			return r[0].(map[string]any)["visible"] != nil
		})

		checked := map[string]bool{}
		ask := func(method, pattern, path string, body any, status int) map[string]any {
			t.Helper()
			answer := c.callAny(method, rest1+path, body, status)
			checked[method+" "+pattern] = true
			if text, ok := answer.(string); ok {
				if text != "hello" {
					t.Errorf("%s %s: %q", method, path, text)
				}
				return nil
			}
			for _, f := range s.check(method+" "+pattern, s.schema(method, pattern), answer) {
				t.Error(f)
			}
			m, _ := answer.(map[string]any)
			return m
		}

		sp := ask("POST", "/jobs/{jobid}/savepoints", "/jobs/"+job+"/savepoints", map[string]any{}, 202)["request-id"].(string)
		location := c.poll(rest1 + "/jobs/" + job + "/savepoints/" + sp)["location"].(string)
		cp := ask("POST", "/jobs/{jobid}/checkpoints", "/jobs/"+job+"/checkpoints", nil, 202)["request-id"].(string)
		c.poll(rest1 + "/jobs/" + job + "/checkpoints/" + cp)
		verify := ask("POST", "/savepoint-verification", "/savepoint-verification", map[string]any{"savepoint-path": location}, 202)["request-id"].(string)
		if rep := c.poll(rest1 + "/savepoint-verification/" + verify)["report"].(map[string]any); rep["entries"] != 1.0 || len(rep["problems"].([]any)) > 0 {
			t.Errorf("verification: %v", rep)
		}
		ask("GET", "/savepoints/details", "/savepoints/details?path="+location, nil, 200)
		checked["GET /savepoints/state"] = true
		want := `{"state":"last","kind":"value","key":"DTW","value":{"Delay":7}}` + "\n" + `{"more":false,"rows":1}` + "\n"
		if rows := c.callAny("GET", rest1+"/savepoints/state?operator=delays/last&path="+location, nil, 200); rows != want {
			t.Errorf("rows of state: %v", rows)
		}
		ask("POST", "/jars/{jarid}/check", "/jars/"+jar+"/check", map[string]any{"savepointPath": location, "programArgsList": []string{"--state", "{Delay string}"}}, 200)
		ask("PUT", "/jobs/{jobid}/resource-requirements", "/jobs/"+job+"/resource-requirements",
			map[string]any{sourceVertex: map[string]any{"parallelism": map[string]any{"lowerBound": 1, "upperBound": 1}}}, 200)
		rescale := ask("PATCH", "/jobs/{jobid}/rescaling", "/jobs/"+job+"/rescaling?parallelism=2", nil, 202)["request-id"].(string)
		if got := c.poll(rest1 + "/jobs/" + job + "/rescaling/" + rescale); got["failure-cause"] != nil {
			t.Errorf("rescale: %v", got)
		}
		dispose := ask("POST", "/savepoint-disposal", "/savepoint-disposal", map[string]any{"savepoint-path": location}, 200)["request-id"].(string)
		checkpoints := c.call("GET", rest1+"/jobs/"+job+"/checkpoints", nil, 200)
		latest := checkpoints["latest"].(map[string]any)["completed"].(map[string]any)["id"].(float64)

		fill := strings.NewReplacer("{jobid}", job, "{vertexid}", sourceVertex, "{triggerid}", cp, "{checkpointid}", fmt.Sprint(latest),
			"{subtaskindex}", "0", "{taskmanagerid}", "tm1", "{jarid}", jar, "{file}", "w.out")
		for pattern, item := range s.at("paths") {
			if _, get := item.(map[string]any)["get"]; !get || strings.HasPrefix(pattern, "/jobmanager/log") && pattern != "/jobmanager/logs" {
				continue
			}
			path := fill.Replace(pattern)
			switch pattern {
			case "/savepoints/details", "/savepoints/state":
				continue // asked for above
			case "/savepoint-verification/{triggerid}":
				path = "/savepoint-verification/" + verify
			case "/jobs/{jobid}/savepoints/{triggerid}":
				path = "/jobs/" + job + "/savepoints/" + sp
			case "/jobs/{jobid}/rescaling/{triggerid}":
				path = "/jobs/" + job + "/rescaling/" + rescale
			case "/savepoint-disposal/{triggerid}":
				path = "/savepoint-disposal/" + dispose
			}
			ask("GET", pattern, path, nil, 200)
		}
		values := c.callAny("GET", rest1+"/jobs/"+job+"/vertices/"+sourceVertex+"/subtasks/metrics?get=numRecordsOutPerSecond,busyTimeMsPerSecond&agg=max", nil, 200)
		for _, f := range s.check("aggregates", s.schema("GET", "/jobs/{jobid}/vertices/{vertexid}/subtasks/metrics"), values) {
			t.Error(f)
		}
		if got := fmt.Sprint(values); !strings.Contains(got, "id:numRecordsOutPerSecond max:200") {
			t.Errorf("aggregates: %s", got)
		}
		ask("POST", "/jars/{jarid}/plan", "/jars/"+jar+"/plan", map[string]any{"parallelism": 1}, 200)
		second := ask("POST", "/jars/{jarid}/run", "/jars/"+jar+"/run", nil, 200)["jobid"].(string)
		ask("PATCH", "/jobs/{jobid}", "/jobs/"+second, nil, 202)
		ask("POST", "/jobs/{jobid}/stop", "/jobs/"+job+"/stop", nil, 202)
		c.state(job, "FINISHED")
		ask("GET", "/jobs/{jobid}/execution-result", "/jobs/"+job+"/execution-result", nil, 200)
		ask("DELETE", "/jars/{jarid}", "/jars/"+jar, nil, 200)
		for _, f := range s.check("upload", s.schema("POST", "/jars/upload"), c.upload(rest1, "again", c.executable(), 200)) {
			t.Error(f)
		}
		checked["POST /jars/upload"] = true
		missing := c.call("GET", rest1+"/jobs/"+strings.Repeat("0", 32), nil, 404)
		for _, f := range s.check("error", s.at("components", "schemas", "Error"), missing) {
			t.Error(f)
		}
		for pattern, item := range s.at("paths") {
			for method := range item.(map[string]any) {
				if key := strings.ToUpper(method) + " " + pattern; method != "parameters" && !checked[key] && !strings.HasPrefix(pattern, "/jobmanager/log") {
					t.Errorf("%s was not asked for", key)
				}
			}
		}
		h.leave()
		l.kill(t)
	})
}
