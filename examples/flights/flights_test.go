package main

import (
	"encoding/json"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

func lines(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("flights.csv")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if all[0] != "scheduled,origin,destination,delay_min,distance_mi" {
		t.Fatalf("header %q", all[0])
	}
	return all[1:]
}

func flights(t *testing.T) []Flight {
	t.Helper()
	var all []Flight
	for i, line := range lines(t) {
		f, err := sdk.CSV[Flight]().Decode([]byte(line))
		if err != nil {
			t.Fatalf("line %d: %v", i+2, err)
		}
		all = append(all, f)
	}
	return all
}

// TestFlightsLieInTheOrderOfLanding: scheduled + delay never falls. Flights that
// landed in the same minute keep the order of scheduled departure, which is that
// of the data's source.
func TestFlightsLieInTheOrderOfLanding(t *testing.T) {
	all := flights(t)
	if len(all) != 20000 {
		t.Fatalf("%d flights, want 20000", len(all))
	}
	landed := func(f Flight) time.Time { return f.Scheduled.Add(time.Duration(f.DelayMin) * time.Minute) }
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if landed(b).Before(landed(a)) {
			t.Fatalf("line %d landed at %v, before line %d at %v", i+2, landed(b), i+1, landed(a))
		}
		if landed(b).Equal(landed(a)) && b.Scheduled.Before(a.Scheduled) {
			t.Fatalf("line %d landed with line %d and was scheduled before it", i+2, i+1)
		}
	}
}

// runJob runs the job over the committed file and returns what its sinks took.
func runJob(t *testing.T, bound time.Duration) (results []Delays, late []Flight) {
	t.Helper()
	out, missed := sdktest.Collect[Delays](), sdktest.Collect[Flight]()
	sdktest.Run(t, func(env *sdk.Env) error {
		env.Name("flights")
		env.Parallelism(2)
		r, l := delays(sdk.From(env, sdk.Files("flights.csv", sdk.CSV[Flight](), sdk.Header())), bound)
		r.To(out).Named("delays")
		l.To(missed).Named("late")
		return nil
	})
	return out.Values(), missed.Values()
}

// oracle counts in a plain loop, with rationals for the mean.
func oracle(all []Flight) map[string]string {
	groups := map[[2]string][]int{}
	for _, f := range all {
		k := [2]string{f.Origin, f.Scheduled.UTC().Format("2006-01-02")}
		groups[k] = append(groups[k], int(f.DelayMin))
	}
	want := map[string]string{}
	for k, d := range groups {
		slices.Sort(d)
		sum := new(big.Rat)
		for _, v := range d {
			sum.Add(sum, big.NewRat(int64(v), int64(len(d))))
		}
		rank := 0
		for rank*100 < 95*len(d) {
			rank++
		}
		mean := sum.FloatString(1) // rounds half away from zero
		if mean == "-0.0" {
			mean = "0.0"
		}
		b, _ := json.Marshal(map[string]any{
			"origin": k[0], "day": k[1], "flights": len(d), "mean": json.RawMessage(mean), "p95": d[rank-1], "worst": d[len(d)-1],
		})
		want[k[0]+" "+k[1]] = string(b)
	}
	return want
}

func TestTheJobEqualsAPlainLoop(t *testing.T) {
	// The longest delay is under 12 hours and the earliest arrival under 2
	// hours early, so nothing can be later than this.
	results, late := runJob(t, 24*time.Hour)
	if len(late) != 0 {
		t.Fatalf("%d late flights, want none: first %s", len(late), late[0].Line)
	}
	got := map[string]string{}
	for _, r := range results {
		key := r.Origin + " " + r.Day
		if got[key] != "" {
			t.Errorf("%s came twice", key)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var sorted map[string]json.RawMessage
		if err := json.Unmarshal(b, &sorted); err != nil {
			t.Fatal(err)
		}
		b, _ = json.Marshal(sorted)
		got[key] = string(b)
	}
	if diff := cmp.Diff(oracle(flights(t)), got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestEveryFlightIsCountedOrLate(t *testing.T) {
	results, late := runJob(t, time.Hour)
	checkSum(t, results, late)
}

// TestLateLinesComeAsTheyWere moves event time with every flight, not with every
// batch, so that lateness does not depend on where batches end.
func TestLateLinesComeAsTheyWere(t *testing.T) {
	h := sdktest.Operator(t, func(in sdk.DataStream[Flight]) sdk.DataStream[Delays] {
		results, _ := delays(in, time.Hour)
		return results
	})
	late := h.Side(sdk.NewTag[Flight]("late"))
	for _, f := range flights(t) {
		h.Push(time.Time{}, f)
	}
	h.End()
	tooLate := late.Take()
	checkSum(t, h.Output(), tooLate)
	if len(tooLate) == 0 {
		t.Error("no flight was late with a bound of an hour")
	}
	input := map[string]bool{}
	for _, l := range lines(t) {
		input[l] = true
	}
	for _, f := range tooLate {
		if !input[f.Line] {
			t.Errorf("late line %q is not one of the input", f.Line)
		}
	}
}

func checkSum(t *testing.T, results []Delays, late []Flight) {
	t.Helper()
	counted, seen := 0, map[string]bool{}
	for _, r := range results {
		counted += r.Flights
		if key := r.Origin + " " + r.Day; seen[key] {
			t.Errorf("%s came twice", key)
		} else {
			seen[key] = true
		}
	}
	if counted+len(late) != 20000 {
		t.Errorf("%d flights counted and %d late, want 20000 together", counted, len(late))
	}
}

func TestResultsLookAsDocumented(t *testing.T) {
	got, err := sdk.JSON[Delays]().Append(nil, Delays{Origin: "DTW", Day: "2001-01-01", Flights: 6, Mean: meanOf(-20, 6), P95: 66, Worst: 66})
	want := `{"origin":"DTW","day":"2001-01-01","flights":6,"mean":-3.3,"p95":66,"worst":66}`
	if err != nil || string(got) != want {
		t.Errorf("a result is\n%s (%v), want\n%s", got, err, want)
	}
	for _, c := range []struct {
		sum, n int64
		want   string
	}{{5, 1, "5.0"}, {1, 4, "0.3"}, {-1, 4, "-0.3"}, {-1, 100, "0.0"}, {-39, 2, "-19.5"}, {1, 20, "0.1"}, {-1, 20, "-0.1"}, {0, 3, "0.0"}} {
		b, err := meanOf(c.sum, c.n).MarshalJSON()
		if err != nil || string(b) != c.want {
			t.Errorf("mean of %d over %d is %s (%v), want %s", c.sum, c.n, b, err, c.want)
		}
		var back Tenths
		if err := back.UnmarshalJSON(b); err != nil || back != meanOf(c.sum, c.n) {
			t.Errorf("%s reads back as %d", b, back)
		}
	}
}

// TestBothFormsOfTheJobArePlanned: on a cluster and by hand.
func TestBothFormsOfTheJobArePlanned(t *testing.T) {
	for _, local := range []bool{true, false} {
		if _, err := sdk.Plan(build, []string{"--out-of-orderness", "2h"}, local); err != nil {
			t.Errorf("local %v: %v", local, err)
		}
	}
}
