package sdk

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/checkpoint/upgrade"
	"github.com/millrace/millrace/runtime/graph"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

type event struct {
	User string
	At   time.Time
	N    int64
}

func user(e event) string { return e.User }

func events(env *Env) DataStream[event] {
	return From(env, Slice(event{User: "a"})).WithTimestamps(Monotonous(func(e event) time.Time { return e.At }))
}

func discard[T any]() Sink[T] { return FuncBatch(func([]T) error { return nil }) }

// forgetful is a sink whose target forgets after a while.
type forgetful struct {
	Sink[event]
	after time.Duration
}

func (f forgetful) TimeToLoss() time.Duration { return f.after }

// A target that forgets must not do so before a job can be got going again.
func TestATargetThatForgetsTooSoonIsRefused(t *testing.T) {
	for after, ok := range map[time.Duration]bool{time.Minute: false, 14 * time.Minute: false, 16 * time.Minute: true} {
		_, err := Plan(func(env *Env) error {
			env.CheckpointEvery(4 * time.Minute)
			env.CheckpointTimeout(time.Minute)
			events(env).To(forgetful{discard[event](), after}).Named("broker")
			return nil
		}, nil, false)
		if (err == nil) != ok {
			t.Errorf("a target that forgets after %v: %v", after, err)
		}
		if !ok && err != nil && (!strings.Contains(err.Error(), `"broker"`) || !strings.Contains(err.Error(), "15m0s")) {
			t.Errorf("%v: it names neither the sink nor what is needed", err)
		}
	}
}

// The plan says of each operator how long it keeps what it has for a key.
func TestThePlanSaysWhatExpires(t *testing.T) {
	g, err := Plan(func(env *Env) error {
		k := events(env).KeyBy(user)
		k.Reduce("reduce", func(a, _ event) event { return a }, TTL(time.Minute)).To(discard[event]())
		k.First("first", TTL(2*time.Minute).InProcessingTime()).To(discard[event]())
		last := k.Last("last", TTL(time.Hour))
		last.To(FuncUpdates(func(Change, event) error { return nil }))
		last.KeyBy(user).TopN("top", 3, func(a, b event) bool { return a.N > b.N }, TTL(3*time.Minute)).
			To(FuncUpdates(func(Change, event) error { return nil }))
		return nil
	}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, n := range g.Nodes {
		for _, s := range n.States {
			got[n.Name+" "+s.GetName()] = fmt.Sprint(s.GetTtl(), " ", time.Duration(s.GetTtlMs())*time.Millisecond)
		}
	}
	want := map[string]string{"reduce reduce": "event 1m0s", "first row": "processing 2m0s", "last row": "event 1h0m0s",
		"top top": "event 3m0s", "top rows": " 0s", "top rows/size": " 0s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWrongJobsAreRefusedInPlanMode: each names the operator and the remedy.
func TestWrongJobsAreRefusedInPlanMode(t *testing.T) {
	type unkeepable struct{ C chan int }
	last := func(a, _ event) event { return a }
	for name, c := range map[string]struct {
		build func(env *Env) error
		want  []string
	}{
		"an empty job": {func(*Env) error { return nil }, []string{"no operators", "sdk.From"}},
		"no sink": {func(env *Env) error {
			events(env).Map(user).Named("users")
			return nil
		}, []string{`"users"`, "nothing reads", "To(sink)"}},
		"a record type without a codec": {func(env *Env) error {
			events(env).Map(func(event) unkeepable { return unkeepable{} }).Named("bad").To(discard[unkeepable]()).Named("out")
			return nil
		}, []string{`"out"`, "unkeepable", "C"}},
		"a state type without a codec": {func(env *Env) error {
			events(env).KeyBy(user).Process("counts", func(op *KeyedOp[string]) KeyedFn[string, event, int] {
				op.Value[unkeepable]("broken")
				return KeyedFn[string, event, int]{Each: func(*KeyedContext[string, int], event) error { return nil }}
			}).To(discard[int]())
			return nil
		}, []string{`"counts"`, `value state "broken"`, "unkeepable"}},
		"an accumulator without a codec": {func(env *Env) error {
			agg := Aggregate[event, unkeepable]{New: func() (u unkeepable) { return }, Add: func(*unkeepable, event) {}}
			events(env).KeyBy(user).Window(Tumbling(time.Hour)).Aggregate("hourly", agg, func(Window, string, unkeepable) int { return 0 }).To(discard[int]())
			return nil
		}, []string{`"hourly"`, "unkeepable"}},
		"a key without a hash": {func(env *Env) error {
			events(env).KeyBy(func(e event) any { return e.User }).Reduce("last", last).To(discard[event]())
			return nil
		}, []string{`"last"`, "key"}},
		"state without a name": {func(env *Env) error {
			events(env).KeyBy(user).Reduce("", last).To(discard[event]())
			return nil
		}, []string{"reduce-1", "no name", "Reduce("}},
		"two operators of one name": {func(env *Env) error {
			k := events(env).KeyBy(user)
			k.Reduce("last", last).Union(k.Reduce("last", last)).To(discard[event]())
			return nil
		}, []string{`"last"`, "two operators", "Named"}},
		"two sources of one name": {func(env *Env) error {
			From(env, Slice(1)).Union(From(env, Slice(2))).To(discard[int]())
			return nil
		}, []string{`"from-slice"`, "two operators"}},
		"windows without timestamps": {func(env *Env) error {
			From(env, Slice(event{})).KeyBy(user).Window(Tumbling(time.Hour)).Aggregate("hourly", Count[event](), func(_ Window, _ string, n int64) int64 { return n }).To(discard[int64]())
			return nil
		}, []string{`"hourly"`, "no timestamps", "WithTimestamps"}},
		"timers without timestamps": {func(env *Env) error {
			From(env, Slice(event{})).KeyBy(user).Process("timed", func(op *KeyedOp[string]) KeyedFn[string, event, int] {
				return KeyedFn[string, event, int]{
					Each:    func(*KeyedContext[string, int], event) error { return nil },
					OnTimer: func(*KeyedContext[string, int]) error { return nil },
				}
			}).To(discard[int]())
			return nil
		}, []string{`"timed"`, "no timestamps"}},
		"a time to live without timestamps": {func(env *Env) error {
			From(env, Slice(event{})).KeyBy(user).Process("dies", func(op *KeyedOp[string]) KeyedFn[string, event, int] {
				op.Map[string, int]("seen", TTL(time.Hour))
				return KeyedFn[string, event, int]{Each: func(*KeyedContext[string, int], event) error { return nil }}
			}).To(discard[int]())
			return nil
		}, []string{`"dies"`, "no timestamps", "processing time"}},
		"a time to live of nothing": {func(env *Env) error {
			events(env).KeyBy(user).Process("dies", func(op *KeyedOp[string]) KeyedFn[string, event, int] {
				op.List[int]("seen", TTL(0).OnRead())
				return KeyedFn[string, event, int]{Each: func(*KeyedContext[string, int], event) error { return nil }}
			}).To(discard[int]())
			return nil
		}, []string{`"dies"`, `list state "seen"`, "at least 1ms"}},
		"a reduction that expires without timestamps": {func(env *Env) error {
			From(env, Slice(event{})).KeyBy(user).Reduce("dies", func(a, _ event) event { return a }, TTL(time.Hour)).To(discard[event]())
			return nil
		}, []string{`"dies"`, "no timestamps", "processing time"}},
		"an operator with a time to live of nothing": {func(env *Env) error {
			events(env).KeyBy(user).AsUpdates().Distinct("dies", TTL(time.Microsecond)).To(discard[event]())
			return nil
		}, []string{`"dies"`, "at least 1ms"}},
		"an operator with two times to live": {func(env *Env) error {
			events(env).KeyBy(user).First("dies", TTL(time.Hour), TTL(time.Minute)).To(discard[event]())
			return nil
		}, []string{`"dies"`, "2 times to live"}},
		"a map by keys without a hash": {func(env *Env) error {
			events(env).KeyBy(user).Process("maps", func(op *KeyedOp[string]) KeyedFn[string, event, int] {
				op.Map[*string, int]("seen")
				return KeyedFn[string, event, int]{Each: func(*KeyedContext[string, int], event) error { return nil }}
			}).To(discard[int]())
			return nil
		}, []string{`"maps"`, `map state "seen"`, "key"}},
		"a reduction of what has no codec": {func(env *Env) error {
			events(env).KeyBy(user).Process("reduces", func(op *KeyedOp[string]) KeyedFn[string, event, int] {
				op.Reducing("r", func(a, _ unkeepable) unkeepable { return a })
				op.Aggregating("a", Aggregate[event, func()]{New: func() func() { return nil }, Add: func(*func(), event) {}})
				op.Aggregating("none", Aggregate[event, int]{})
				return KeyedFn[string, event, int]{Each: func(*KeyedContext[string, int], event) error { return nil }}
			}).To(discard[int]())
			return nil
		}, []string{`"reduces"`, `reducing state "r"`, "unkeepable", `aggregating state "a"`, `aggregating state "none"`, "New and Add"}},
		"one side of a union without timestamps": {func(env *Env) error {
			events(env).Union(From(env, Slice(event{})).Named("untimed")).KeyBy(user).Window(Tumbling(time.Hour)).
				Aggregate("hourly", Count[event](), func(_ Window, _ string, n int64) int64 { return n }).To(discard[int64]())
			return nil
		}, []string{`"hourly"`, "no timestamps"}},
		"sessions without merge": {func(env *Env) error {
			agg := Aggregate[event, int]{New: func() int { return 0 }, Add: func(*int, event) {}}
			events(env).KeyBy(user).Window(Session(time.Hour)).Aggregate("sessions", agg, func(Window, string, int) int { return 0 }).To(discard[int]())
			return nil
		}, []string{`"sessions"`, "Merge"}},
		"sliding windows without merge": {func(env *Env) error {
			agg := Aggregate[event, int]{New: func() int { return 0 }, Add: func(*int, event) {}}
			events(env).KeyBy(user).Window(Sliding(time.Hour, time.Minute)).Aggregate("slides", agg, func(Window, string, int) int { return 0 }).To(discard[int]())
			return nil
		}, []string{`"slides"`, "Merge", "tumbling"}},
		"an endless window without a trigger": {func(env *Env) error {
			events(env).KeyBy(user).Window(Endless()).Aggregate("all", Count[event](), func(_ Window, _ string, n int64) int64 { return n }).To(discard[int64]())
			return nil
		}, []string{`"all"`, "give it a trigger"}},
		"triggers that cannot be": {func(env *Env) error {
			count := func(_ Window, _ string, n int64) int64 { return n }
			k := events(env).KeyBy(user)
			stateless := Trigger[event, int64]{Each: func(*TriggerContext, *int64, event) TriggerAction { return Fire }}
			k.Window(Tumbling(time.Hour)).Trigger(OnCount[event](0)).Aggregate("zero", Count[event](), count).
				Union(k.Window(Session(time.Hour)).Trigger(stateless).Aggregate("joined", Count[event](), count)).
				To(discard[int64]())
			return nil
		}, []string{`"zero"`, "at least 1", `"joined"`, "give the trigger a Merge function"}},
		"the first of none": {func(env *Env) error {
			top := func(n int, w Windows) DataStream[int64] {
				return events(env).KeyBy(user).Window(w).Top(fmt.Sprint("first-", n), n, Count[event](), func(n int64) int64 { return n }, func(_ Window, _ string, n int64) int64 { return n })
			}
			top(0, Tumbling(time.Hour)).Union(top(1, Session(time.Hour))).To(discard[int64]())
			return nil
		}, []string{"at least 1", "use tumbling or sliding"}},
		"a window of no length": {func(env *Env) error {
			events(env).KeyBy(user).Window(Tumbling(0)).Reduce("none", last, func(_ Window, _ string, e event) event { return e }).To(discard[event]())
			return nil
		}, []string{`"none"`, "at least one millisecond"}},
		"a side output that nobody declared": {func(env *Env) error {
			s := events(env).Filter(func(event) bool { return true }).Named("all")
			s.To(discard[event]())
			s.Side(NewTag[int]("numbers")).To(discard[int]())
			return nil
		}, []string{`"all"`, `"numbers"`, "declare"}},
		"dead letters of a source that decodes nothing": {func(env *Env) error {
			From(env, Slice(1), DeadLetters(NewTag[Record]("dead"))).To(discard[int]())
			return nil
		}, []string{"from-slice", "codec"}},
		"a codec that cannot work": {func(env *Env) error {
			From(env, Files("x.csv", CSV[int]())).To(discard[int]())
			return nil
		}, []string{"from-x.csv", "no struct"}},
		"a sink that cannot work": {func(env *Env) error {
			From(env, Slice(1)).To(WriteFiles("", JSON[int]()))
			return nil
		}, []string{"folder is empty"}},
		"a nil function": {func(env *Env) error {
			From(env, Slice(1)).Map[int](nil).Named("nothing").To(discard[int]())
			return nil
		}, []string{`"nothing"`, "nil"}},
		"a name that no screen holds": {func(env *Env) error {
			From(env, Slice(1)).To(discard[int]()).Named(strings.Repeat("x", 500))
			return nil
		}, []string{"500 bytes", "at most"}},
		"a broken setting":      {func(env *Env) error { env.Parallelism(0); return nil }, []string{"parallelism is 0"}},
		"two jobs in one graph": {twoJobs, []string{"different jobs"}},
		"an error of build":     {func(*Env) error { return errors.New("no such airport") }, []string{"no such airport"}},
		"a panic of build":      {func(*Env) error { panic("oh no") }, []string{"build panicked: oh no", "plan_test.go"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Plan(c.build, nil, true)
			if err == nil {
				t.Fatal("the job was accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

func twoJobs(env *Env) error {
	other := newEnv(nil, true)
	From(env, Slice(1)).Union(From(other, Slice(2))).To(discard[int]())
	return nil
}

// TestAPlanDescribesTheJob compares what the graph says with what was built.
func TestAPlanDescribesTheJob(t *testing.T) {
	late := NewTag[event]("late")
	build := func(env *Env) error {
		env.Name("demo")
		env.Parallelism(2)
		env.CheckpointEvery(250 * time.Millisecond)
		env.Restart(RestartAfter(time.Second, 3))
		env.Set("owner", "a team")
		k := events(env).Filter(func(e event) bool { return e.N > 0 }).KeyBy(user)
		counts := k.Window(Sliding(time.Hour, time.Minute)).Late(late).
			Aggregate("counts", Count[event](), func(_ Window, _ string, n int64) int64 { return n }).Parallel(4).MaxParallel(64)
		counts.To(discard[int64]()).Named("out").Parallel(1)
		counts.Side(late).To(discard[event]())
		k.Process("totals", func(op *KeyedOp[string]) KeyedFn[string, event, int64] {
			total := op.Value[int64]("total")
			return KeyedFn[string, event, int64]{Each: func(c *KeyedContext[string, int64], e event) error {
				total.Set(total.Get() + e.N)
				c.Emit(total.Get())
				return nil
			}}
		}).To(discard[int64]())
		return nil
	}
	g, err := Plan(build, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := graph.Plan(g, int(g.Config.DefaultParallelism))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range plan.GetVertices() {
		line := v.GetName()
		for _, in := range v.GetInputs() {
			line += " <" + strings.ToLower(strings.TrimPrefix(in.GetShip().String(), "SHIP_")) + in.GetTag() + ">"
		}
		for _, o := range v.GetOperators() {
			for _, s := range o.GetStates() {
				line += " " + s.GetName()
			}
		}
		got = append(got, line)
	}
	want := []string{
		"from-slice -> filter-1",
		"counts <hash> window",
		"out <rebalance>",
		"to-func-2 <rebalancelate>",
		"totals -> to-func-3 <hash> total",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("vertices (-want +got):\n%s", diff)
	}
	c := plan.GetConfig()
	if plan.GetName() != "demo" || c.GetCheckpointIntervalMs() != 250 || c.GetRestart().GetKind() != pb.RestartStrategy_KIND_FIXED || c.GetUser()["owner"] != "a team" {
		t.Errorf("configuration %v", c)
	}
	again, err := Plan(build, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := graph.Plan(again, int(again.Config.DefaultParallelism))
	if err != nil || !cmp.Equal(plan.GetPlanHash(), second.GetPlanHash()) {
		t.Errorf("a second plan has hash %x, %v; want %x", second.GetPlanHash(), err, plan.GetPlanHash())
	}
}

// TestWindowsThatAreCutOtherwiseDoNotTakeUpState: slices of one cut say nothing
// of windows of another.
func TestWindowsThatAreCutOtherwiseDoNotTakeUpState(t *testing.T) {
	plan := func(w Windows) *pb.JobGraph {
		g, err := Plan(func(env *Env) error {
			events(env).KeyBy(user).Window(w).
				Aggregate("hits", Count[event](), func(_ Window, u string, n int64) int64 { return n }).
				To(discard[int64]())
			return nil
		}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		p, err := graph.Plan(g, 1)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	old := plan(Sliding(time.Hour, time.Minute))
	for name, c := range map[string]struct {
		w  Windows
		ok bool
	}{
		"the same":        {Sliding(time.Hour, time.Minute), true},
		"longer":          {Sliding(2*time.Hour, time.Minute), false},
		"more often":      {Sliding(time.Hour, 30*time.Second), false},
		"tumbling":        {Tumbling(time.Hour), false},
		"processing time": {Sliding(time.Hour, time.Minute).InProcessingTime(), false},
	} {
		r, err := upgrade.Compare(upgrade.Old{Graph: old, Running: true}, plan(c.w))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check(false); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
