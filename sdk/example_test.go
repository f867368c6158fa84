package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/sdk"
)

// Visit is what most of these examples are about.
type Visit struct {
	User string    `json:"user" csv:"user"`
	Page string    `json:"page" csv:"page"`
	At   time.Time `json:"at" csv:"at"`
}

func at(clock string) time.Time {
	t, err := time.Parse("15:04", clock)
	if err != nil {
		panic(err)
	}
	return t.AddDate(2001, 0, 0)
}

var visits = []Visit{
	{"ann", "/", at("10:00")}, {"bob", "/", at("10:05")}, {"ann", "/cart", at("10:20")},
	{"ann", "/", at("11:10")}, {"bob", "/cart", at("10:50")}, {"eve", "/", at("13:00")},
}

func visitedAt(v Visit) time.Time { return v.At }
func visitor(v Visit) string      { return v.User }

// run runs a job and prints its error.
func run(build func(env *sdk.Env) error, args ...string) {
	if err := sdk.Run(context.Background(), build, args...); err != nil {
		fmt.Println(err)
	}
}

func printed[T any]() sdk.Sink[T] {
	return sdk.Func(func(v T) error {
		_, err := fmt.Println(v)
		return err
	})
}

// A job is a build function: streams begin at sources, pass operators and end
// in sinks.
func Example() {
	build := func(env *sdk.Env) error {
		env.Name("words")
		sdk.From(env, sdk.Slice("to be or not", "to be")).
			FlatMap(func(line string, emit func(string)) {
				for _, word := range strings.Fields(line) {
					emit(word)
				}
			}).
			KeyBy(func(word string) string { return word }).
			Aggregate("counts", sdk.Count[string](), func(word string, n int64) string { return fmt.Sprint(word, " ", n) }).
			To(printed[string]())
		return nil
	}
	run(build) // in a job's binary: func main() { sdk.Main(build) }
	// Output:
	// to 1
	// be 1
	// or 1
	// not 1
	// to 2
	// be 2
}

// Flags have their values inside build; the run by hand answers --help.
func ExampleEnv_Duration() {
	run(func(env *sdk.Env) error {
		bound := env.Duration("bound", time.Hour, "how late a visit may be")
		greeting := env.String("greeting", "hello", "what to say")
		sdk.From(env, sdk.Slice(1)).Map(func(int) string { return fmt.Sprint(greeting, " ", bound) }).To(printed[string]())
		return nil
	}, "--bound=90s")
	// Output: hello 1m30s
}

func ExampleDataStream_Filter() {
	run(func(env *sdk.Env) error {
		numbers := sdk.From(env, sdk.Slice(1, 2, 3, 4))
		even := numbers.Filter(func(n int) bool { return n%2 == 0 })
		even.Map(func(n int) float64 { return float64(n) / 4 }).To(printed[float64]())
		return nil
	})
	// Output:
	// 0.5
	// 1
}

func ExampleDataStream_Union() {
	run(func(env *sdk.Env) error {
		a := sdk.From(env, sdk.Slice("a")).Named("first")
		b := sdk.From(env, sdk.Slice("b")).Named("second")
		a.Union(b).Rebalance().To(printed[string]()).Parallel(1)
		return nil
	})
	// Unordered output:
	// a
	// b
}

// Process keeps what is its own in the function of each subtask, and has side
// outputs and errors.
func ExampleDataStream_Process() {
	odd := sdk.NewTag[string]("odd")
	run(func(env *sdk.Env) error {
		numbers := sdk.From(env, sdk.Slice(1, 2, 3))
		halves := numbers.Process(func(op *sdk.Op) sdk.Fn[int, int] {
			rest := op.Side(odd)
			seen := op.Counter("seen")
			return func(c *sdk.Context[int], n int) error {
				seen.Add(1)
				if n%2 != 0 {
					c.EmitTo(rest, fmt.Sprint(n, " is odd"))
					return nil
				}
				c.Emit(n / 2)
				return nil
			}
		}).Named("halves")
		halves.Map(func(n int) string { return fmt.Sprint("half ", n) }).To(printed[string]())
		halves.Side(odd).To(printed[string]())
		return nil
	})
	// Unordered output:
	// 1 is odd
	// half 1
	// 3 is odd
}

func ExampleKeyedStream_Reduce() {
	run(func(env *sdk.Env) error {
		longest := func(a, b string) string {
			if len(b) > len(a) {
				return b
			}
			return a
		}
		sdk.From(env, sdk.Slice("ant", "bee", "albatross", "bat")).
			KeyBy(func(s string) byte { return s[0] }).
			Reduce("longest by letter", longest).
			To(printed[string]())
		return nil
	})
	// Output:
	// ant
	// bee
	// albatross
	// bee
}

// State is declared once per subtask and is that of the current key; timers
// fire when event time reaches them.
func ExampleKeyedStream_Process() {
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Hour, visitedAt)).
			KeyBy(visitor).
			Process("visits until idle", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, Visit, string] {
				last := op.Value[time.Time]("last visit")
				pages := op.Map[string, int]("pages")
				return sdk.KeyedFn[string, Visit, string]{
					Each: func(c *sdk.KeyedContext[string, string], v Visit) error {
						n, _ := pages.Get(v.Page)
						pages.Put(v.Page, n+1)
						c.DeleteTimer(last.Get().Add(time.Hour))
						last.Set(c.Time())
						c.SetTimer(c.Time().Add(time.Hour))
						return nil
					},
					OnTimer: func(c *sdk.KeyedContext[string, string]) error {
						c.Emit(fmt.Sprintf("%s saw %d pages and left by %s", c.Key(), pages.Len(), c.Time().Format("15:04")))
						pages.Clear()
						return nil
					},
				}
			}).
			To(printed[string]())
		return nil
	})
	// Output:
	// bob saw 2 pages and left by 11:50
	// ann saw 2 pages and left by 12:10
	// eve saw 1 pages and left by 14:00
}

// The longest page name of an hour is about all visits, so there is no key.
func ExampleDataStream_WindowAll() {
	run(func(env *sdk.Env) error {
		env.Name("longest page")
		sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Hour, visitedAt)).
			WindowAll(sdk.Tumbling(time.Hour)).
			Aggregate("longest page", sdk.Max(func(v Visit) int { return len(v.Page) }), func(w sdk.Window, longest sdk.Extreme[int]) string {
				return fmt.Sprint(w.Start.Format("15:04"), " ", longest.Value)
			}).
			To(printed[string]())
		return nil
	})
	// Output:
	// 10:00 5
	// 11:00 1
	// 13:00 1
}

// Of each hour, the page with the most visits; two pages that tie are both there.
func ExampleWindowedStream_Top() {
	run(func(env *sdk.Env) error {
		env.Name("favourite")
		sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Hour, visitedAt)).
			KeyBy(func(v Visit) string { return v.Page }).
			Window(sdk.Sliding(2*time.Hour, time.Hour)).
			Top("favourite", 1, sdk.Count[Visit](), func(n int64) int64 { return n }, func(w sdk.Window, page string, n int64) string {
				return fmt.Sprint(w.Start.Format("15:04"), " ", page, " ", n)
			}).
			To(printed[string]())
		return nil
	})
	// Unordered output:
	// 09:00 / 2
	// 09:00 /cart 2
	// 10:00 / 3
	// 11:00 / 1
	// 12:00 / 1
	// 13:00 / 1
}

// The visits of each hour so far, with every second one, and those of the whole
// hour at its end.
func ExampleWindowedStream_Trigger() {
	run(func(env *sdk.Env) error {
		env.Name("so far")
		sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Hour, visitedAt)).
			KeyBy(func(Visit) string { return "all" }).
			Window(sdk.Tumbling(time.Hour)).
			Trigger(sdk.OnCount[Visit](2)).
			Aggregate("so far", sdk.Count[Visit](), func(w sdk.Window, _ string, n int64) string {
				return fmt.Sprint(w.Start.Format("15:04"), " ", n)
			}).
			To(printed[string]())
		return nil
	})
	// Output:
	// 10:00 2
	// 10:00 4
	// 10:00 4
	// 11:00 1
	// 13:00 1
}

// The last two pages of each user, with each visit.
func ExampleTriggeredStream_Evict() {
	run(func(env *sdk.Env) error {
		env.Name("path")
		sdk.From(env, sdk.Slice(visits...)).
			KeyBy(visitor).
			Window(sdk.Endless()).
			Trigger(sdk.OnCount[Visit](1)).
			Evict(sdk.KeepLast[Visit](2)).
			Apply("path", func(_ sdk.Window, user string, last []Visit) string {
				path := user
				for _, v := range last {
					path += " " + v.Page
				}
				return path
			}).
			To(printed[string]())
		return nil
	})
	// Output:
	// ann /
	// bob /
	// ann / /cart
	// ann /cart /
	// bob / /cart
	// eve /
}

// How many visits each page has had when all is read. With the same job as a
// stream, each count would be taken back when the next visit comes, and the sink
// would have to take updates.
func ExampleEnv_Batch() {
	run(func(env *sdk.Env) error {
		env.Name("totals")
		env.Batch()
		sdk.From(env, sdk.Slice(visits...)).
			KeyBy(func(v Visit) string { return v.Page }).
			AsUpdates().
			Aggregate("visits", sdk.Count[Visit](), func(page string, n int64) string { return fmt.Sprint(page, " ", n) }).
			To(printed[string]())
		return nil
	})
	// Unordered output:
	// / 4
	// /cart 2
}

// The hour that a visit belongs to is that in which it happened, whenever it
// comes; what comes after its hour was counted is late.
func ExampleKeyedStream_Window() {
	late := sdk.NewTag[Visit]("late")
	run(func(env *sdk.Env) error {
		hourly := sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(30*time.Minute, visitedAt)).
			KeyBy(func(v Visit) string { return v.Page }).
			Window(sdk.Tumbling(time.Hour)).
			Late(late).
			Aggregate("visits per page and hour", sdk.Count[Visit](), func(w sdk.Window, page string, n int64) string {
				return fmt.Sprintf("%s %s %d", w.Start.Format("15:04"), page, n)
			})
		hourly.To(printed[string]())
		hourly.Side(late).Map(visitor).To(printed[string]()).Named("late visitors")
		return nil
	})
	// Unordered output:
	// 10:00 / 2
	// 10:00 /cart 2
	// 11:00 / 1
	// 13:00 / 1
}

func ExampleSliding() {
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Hour, visitedAt)).
			KeyBy(func(Visit) string { return "all" }).
			Window(sdk.Sliding(2*time.Hour, time.Hour)).
			Aggregate("last two hours", sdk.Count[Visit](), func(w sdk.Window, _ string, n int64) string {
				return fmt.Sprint("until ", w.End.Format("15:04"), ": ", n)
			}).
			To(printed[string]())
		return nil
	})
	// Output:
	// until 11:00: 4
	// until 12:00: 5
	// until 13:00: 1
	// until 14:00: 1
	// until 15:00: 1
}

func ExampleSession() {
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Hour, visitedAt)).
			KeyBy(visitor).
			Window(sdk.Session(46*time.Minute)).
			Reduce("last page", func(_, v Visit) Visit { return v }, func(w sdk.Window, user string, v Visit) string {
				return fmt.Sprint(user, " left ", v.Page, " by ", w.End.Format("15:04"))
			}).
			To(printed[string]())
		return nil
	})
	// Unordered output:
	// ann left /cart by 11:06
	// bob left /cart by 11:36
	// ann left / by 11:56
	// eve left / by 13:46
}

// An Aggregate of one's own: the accumulator is any type that can be encoded.
func ExampleAggregate() {
	type stats struct{ N, Sum int64 }
	mean := sdk.Aggregate[int64, stats]{
		New:   func() stats { return stats{} },
		Add:   func(acc *stats, v int64) { acc.N++; acc.Sum += v },
		Merge: func(a, b *stats) { a.N += b.N; a.Sum += b.Sum },
	}
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice[int64](1, 2, 6)).
			KeyBy(func(int64) string { return "all" }).
			Aggregate("mean", mean, func(_ string, acc stats) float64 { return float64(acc.Sum) / float64(acc.N) }).
			To(printed[float64]())
		return nil
	})
	// Output:
	// 1
	// 1.5
	// 3
}

// Files read lines by a codec; what does not decode goes where one says.
func ExampleDeadLetters() {
	dir, err := os.MkdirTemp("", "visits")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "visits.csv")
	if err := os.WriteFile(file, []byte("page,user,at\n/,ann,2001-01-01T10:00:00Z\n/cart,bob,soon\n"), 0o644); err != nil {
		panic(err)
	}
	bad := sdk.NewTag[sdk.Record]("bad lines")
	run(func(env *sdk.Env) error {
		in := sdk.From(env, sdk.Files(file, sdk.CSV[Visit](), sdk.Header()), sdk.DeadLetters(bad))
		in.Map(visitor).To(printed[string]())
		in.Side(bad).Map(func(r sdk.Record) string { return "bad: " + string(r.Data) }).To(printed[string]())
		return nil
	})
	// Unordered output:
	// ann
	// bad: /cart,bob,soon
}

func ExampleGenerate() {
	run(func(env *sdk.Env) error {
		squares := sdk.From(env, sdk.Generate(1000, func(i int64) int64 { return i * i })).Parallel(2)
		squares.KeyBy(func(int64) bool { return true }).
			Aggregate("sum", sdk.Sum(func(n int64) int64 { return n }), func(_ bool, sum int64) int64 { return sum }).
			Filter(func(sum int64) bool { return sum == 332833500 }).
			To(printed[int64]())
		return nil
	})
	// Output: 332833500
}

func ExampleIterate() {
	countdown := func() iter.Seq[int] {
		return func(yield func(int) bool) {
			for i := 3; i > 0 && yield(i); i-- {
			}
		}
	}
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Iterate(countdown)).To(printed[int]())
		return nil
	})
	// Output:
	// 3
	// 2
	// 1
}

func ExamplePrint() {
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice(visits[0])).To(sdk.Print(sdk.JSON[Visit]()))
		sdk.From(env, sdk.Slice(visits[1])).Named("second").To(sdk.Print(sdk.CSV[Visit]()))
		return nil
	})
	// Unordered output:
	// {"user":"ann","page":"/","at":"2001-01-01T10:00:00Z"}
	// bob,/,2001-01-01T10:05:00Z
}

func ExampleWriteFiles() {
	dir, err := os.MkdirTemp("", "out")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice("x", "y")).To(sdk.WriteFiles(dir, sdk.Lines()))
		return nil
	})
	out, err := os.ReadFile(filepath.Join(dir, "part-0"))
	fmt.Printf("%q %v\n", out, err)
	// Output: "x\ny\n" <nil>
}

func ExampleCodecOf() {
	shout := sdk.CodecOf(nil, func(dst []byte, s string) ([]byte, error) { return append(dst, strings.ToUpper(s)...), nil })
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice("hello")).To(sdk.Print(shout))
		return nil
	})
	// Output: HELLO
}

// A wrong job is refused before a record flows, with the operator's name.
func ExamplePlan() {
	_, err := sdk.Plan(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice(visits...)).
			KeyBy(visitor).
			Window(sdk.Tumbling(time.Hour)).
			Aggregate("hourly", sdk.Count[Visit](), func(_ sdk.Window, _ string, n int64) int64 { return n }).
			To(printed[int64]())
		return nil
	}, nil, false)
	fmt.Println(err)
	// Output: operator "hourly": its windows, timers or times to live are in event time, and its input has no timestamps: call WithTimestamps on the stream before it, or use processing time
}

// The error of a function fails the job, which then restarts as it was told.
func ExampleEnv_Restart() {
	run(func(env *sdk.Env) error {
		env.Name("broken")
		env.Restart(sdk.NoRestart())
		sdk.From(env, sdk.Slice(1)).TryMap(func(int) (int, error) { return 0, errors.New("no luck") }).Named("luck").To(printed[int]())
		return nil
	})
	// Output: the restart strategy is none: the first failure ends the job; the last: no luck
}
