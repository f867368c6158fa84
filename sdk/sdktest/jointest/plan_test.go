package jointest

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/sdk"
)

// planned plans a job of a join, of sides with or without timestamps.
func planned(timed bool, part func(in sdk.DataStream[rec]) sdk.DataStream[string]) (warnings []string, err error) {
	g, err := sdk.Plan(func(env *sdk.Env) error {
		in := sdk.From(env, sdk.Slice(rec{})).Named("in")
		if timed {
			in = in.WithTimestamps(sdk.Monotonous(func(v rec) time.Time { return at(int64(v.N)) }))
		}
		part(in).To(sdk.Func(func(string) error { return nil })).Named("out")
		return nil
	}, nil, true)
	if err != nil {
		return nil, err
	}
	return g.Warnings, nil
}

func TestAJoinWithoutBoundWarns(t *testing.T) {
	w, err := planned(false, func(in sdk.DataStream[rec]) sdk.DataStream[string] { return joined(in).Inner("bids", inner) })
	if err != nil || len(w) != 1 || !strings.Contains(w[0], `"bids"`) || !strings.Contains(w[0], "TTL") {
		t.Errorf("%q, %v: want one warning that names the join and a remedy", w, err)
	}
	for name, part := range map[string]func(in sdk.DataStream[rec]) sdk.DataStream[string]{
		"ttl": func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).TTL(time.Hour).Inner("j", inner)
		},
		"between": func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Between(0, time.Hour).Inner("j", inner)
		},
		"window": func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Window(sdk.Tumbling(time.Hour)).Inner("j", inner)
		},
		"versions": func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			a, b := sides(in)
			return a.JoinVersions(b).Inner("j", inner)
		},
	} {
		if w, err := planned(true, part); err != nil || len(w) != 0 {
			t.Errorf("%s: %q, %v", name, w, err)
		}
	}
}

func TestWrongJoinsAreRefused(t *testing.T) {
	late := sdk.NewTag[rec]("late")
	for name, c := range map[string]struct {
		timed bool
		part  func(in sdk.DataStream[rec]) sdk.DataStream[string]
		want  []string
	}{
		"bounds the wrong way round": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Between(time.Hour, 0).Inner("j", inner)
		}, []string{`"j"`, "lower"}},
		"bounds without timestamps": {false, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Between(0, time.Hour).Inner("j", inner)
		}, []string{`"j"`, "WithTimestamps"}},
		"bounds and a TTL": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Between(0, time.Hour).TTL(time.Hour).Inner("j", inner)
		}, []string{`"j"`, "leave out the TTL"}},
		"a negative retention": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Retain(-time.Hour, 2*time.Hour).Inner("j", inner)
		}, []string{`"j"`, "negative"}},
		"a window and a TTL": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).TTL(time.Hour).Window(sdk.Tumbling(time.Hour)).Inner("j", inner)
		}, []string{`"j"`, "leave out"}},
		"a window by the clock": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Window(sdk.Tumbling(time.Hour).InProcessingTime()).Inner("j", inner)
		}, []string{`"j"`, "event time"}},
		"late records of one tag": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Between(0, time.Hour).Late(late, late).Inner("j", inner)
		}, []string{`"j"`, "differ"}},
		"late records where nothing is": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Late(late, sdk.NewTag[rec]("other")).Inner("j", inner)
		}, []string{`"j"`, "nothing is late"}},
		"no function": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Between(0, time.Hour).Inner[string]("j", nil)
		}, []string{`"j"`, "nil"}},
		"no name": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return joined(in).Between(0, time.Hour).Inner("", inner)
		}, []string{"no name"}},
		"a broadcast process without state": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return in.ConnectBroadcast(in).Process("b", func(op *sdk.BroadcastOp) sdk.BroadcastFn[rec, rec, string] {
				return sdk.BroadcastFn[rec, rec, string]{
					Each:        func(*sdk.Context[string], rec) error { return nil },
					OnBroadcast: func(*sdk.BroadcastContext[string], rec) error { return nil },
				}
			})
		}, []string{`"b"`, "no broadcast state"}},
		"a broadcast state that has no codec": {true, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return in.ConnectBroadcast(in).Process("b", func(op *sdk.BroadcastOp) sdk.BroadcastFn[rec, rec, string] {
				op.Broadcast[string, chan int]("rules")
				return sdk.BroadcastFn[rec, rec, string]{
					Each:        func(*sdk.Context[string], rec) error { return nil },
					OnBroadcast: func(*sdk.BroadcastContext[string], rec) error { return nil },
				}
			})
		}, []string{`"b"`, `"rules"`, "chan"}},
		"a lookup without Find": {false, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
			return in.Lookup(sdk.LookupTable[string, int]{}, keyOf).Inner(func(rec, int) string { return "" }).Named("look")
		}, []string{`"look"`, "Find"}},
	} {
		_, err := planned(c.timed, c.part)
		if err == nil {
			t.Errorf("%s: it was planned", name)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not say %q", name, err, part)
			}
		}
	}
}
