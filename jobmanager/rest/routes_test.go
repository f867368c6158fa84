package rest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/api"
)

func TestRoutesAreThoseOfTheSpecification(t *testing.T) {
	var spec struct {
		Paths map[string]map[string]any
	}
	if err := yaml.Unmarshal(api.OpenAPI, &spec); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for path, item := range spec.Paths {
		for method := range item {
			if method != "parameters" {
				want = append(want, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, r := range (&Server{}).routes() {
		got = append(got, r.method+" "+r.path)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-openapi.yaml +server:\n%s", diff)
	}
}

func TestSubtaskRanges(t *testing.T) {
	got, err := subtaskRanges("0,2-9", 5)
	if diff := cmp.Diff([]int{0, 2, 3, 4}, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"x", "3-1", "-1", "1-"} {
		if _, err := subtaskRanges(bad, 5); api.CodeOf(err) != api.BadRequest {
			t.Errorf("subtasks=%s: %v", bad, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 12: "12", -1: "-1", 1.5: "1.5", 1e12: "1000000000000"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
}
