package jointest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

// forgetting is most operators that keep something for a key, each with a TTL or
// none, as changes of one table. A key has a record every 40 ms of event time, all
// of one split of the source, and falls silent for 400 ms now and then.
func forgetting(in sdk.DataStream[int64], ttl ...sdk.StateOption) sdk.DataStream[string] {
	key := func(v int64) int64 { return v % 40 }
	score := func(v int64) int64 { return int64(uint64(v+1) * 0x9e3779b97f4a7c15 >> 30) }
	before := func(a, b int64) bool { return score(a) < score(b) }
	show := func(name string) func(v int64) string {
		return func(v int64) string { return fmt.Sprint(name, " ", v) }
	}
	showOf := func(name string) func(key, n int64) string {
		return func(key, n int64) string { return fmt.Sprint(name, " ", key, " ", n) }
	}
	k := in.Filter(func(v int64) bool { return (v/400+key(v))%3 != 0 }).KeyBy(key)
	u := k.AsUpdates()
	// What this emits has the time of its record, for nothing of it expires.
	least := u.TopN("least", 3, before, sdk.TTL(time.Hour)).KeyBy(key)
	name := func(v int64) int64 { return score(v) % 5 }
	return k.First("first", ttl...).AsUpdates().Map(show("first")).Union(
		k.Best("best", before, ttl...).Map(show("best")),
		u.Aggregate("count", sdk.Count[int64](), showOf("count"), ttl...),
		u.CountDistinct("names", name, showOf("names"), ttl...),
		u.TopNRanked("top", 2, before, func(rank int, v int64) string { return fmt.Sprint("top ", rank, " ", v) }, ttl...),
		least.CountDistinct("names-least", name, showOf("names of the least"), ttl...),
		least.TopNRanked("rank-least", 2, before, func(rank int, v int64) string { return fmt.Sprint("rank ", rank, " ", v) }, ttl...),
		least.Distinct("distinct-least", ttl...).Map(func(v int64) string { return fmt.Sprint("key ", key(v)) }),
	).Changes(asText)
}

// TestWhatExpiresIsTheSame: keys are forgotten in event time by the records alone,
// whatever happens to the job, and in a batch run not at all.
func TestWhatExpiresIsTheSame(t *testing.T) {
	const n = 2000
	reduce := func(rows []string) []string { return tableOf(t, rows) }
	some := samelyBy(t, n, reduce, func(in sdk.DataStream[int64]) sdk.DataStream[string] {
		return forgetting(in, sdk.TTL(220*time.Millisecond))
	})
	run := func(ttl []sdk.StateOption, args ...string) []string {
		out := sdktest.Collect[string]()
		sdktest.Run(t, func(env *sdk.Env) error {
			in := sdk.From(env, sdk.Generate(n, func(i int64) int64 { return i })).Named("numbers").
				WithTimestamps(sdk.BoundedOutOfOrderness(40*time.Millisecond, func(v int64) time.Time { return time.UnixMilli(v) }))
			forgetting(in, ttl...).To(out)
			return nil
		}, args...)
		return reduce(out.Values())
	}
	all := run(nil)
	if diff := cmp.Diff(all, run([]sdk.StateOption{sdk.TTL(220 * time.Millisecond)}, "--batch")); diff != "" {
		t.Errorf("a batch run with a TTL is not a run without (-without +batch):\n%.2000s", diff)
	}
	// Each operator forgets: what it showed of a key stays, and more comes beside it.
	count := func(rows []string, name string) (n int) {
		for _, row := range rows {
			if strings.HasPrefix(row, name+" ") {
				n++
			}
		}
		return n
	}
	for _, name := range []string{"first", "best", "count", "names", "top", "names of the least", "rank", "key"} {
		if n, m := count(all, name), count(some, name); m <= n {
			t.Errorf("%s: %d rows with a TTL, %d without", name, m, n)
		}
	}
}

// TestWhatExpiresByTheClockIsTheSame: after a silence operators, declared state and
// joins have forgotten what came before, whatever happens to the job.
func TestWhatExpiresByTheClockIsTheSame(t *testing.T) {
	key := func(v int64) int64 { return v % 40 }
	const life = 500 * time.Millisecond
	byTheClock := sdk.TTL(life).InProcessingTime()
	for name, part := range map[string]func(in sdk.DataStream[int64]) sdk.DataStream[string]{
		"operators": func(in sdk.DataStream[int64]) sdk.DataStream[string] {
			k := in.KeyBy(key)
			before := func(a, b int64) bool { return a%13 < b%13 || a%13 == b%13 && a < b }
			first := k.First("first", byTheClock).AsUpdates().Map(func(v int64) string { return fmt.Sprint("first ", v) })
			ranked := k.AsUpdates().TopN("least", 3, before).KeyBy(key).
				TopNRanked("top", 2, before, func(rank int, v int64) string { return fmt.Sprint("top ", rank, " ", v) }, byTheClock)
			return first.Union(ranked).Changes(asText)
		},
		"join": func(in sdk.DataStream[int64]) sdk.DataStream[string] {
			left := in.Filter(func(v int64) bool { return v%3 != 0 && v%31 > 0 }).KeyBy(key)
			right := in.Filter(func(v int64) bool { return v%3 == 0 && v%7 < 2 && (v < 600 || key(v) > 3) }).KeyBy(key)
			return left.Join(right).TTL(life).Full("j", func(l, r *int64) string {
				switch {
				case l == nil:
					return fmt.Sprint("+none ", *r)
				case r == nil:
					return fmt.Sprint("+", *l, " none")
				}
				return fmt.Sprint("+", *l, " ", *r)
			})
		},
		"state": func(in sdk.DataStream[int64]) sdk.DataStream[string] {
			return in.KeyBy(key).Process("p", func(op *sdk.KeyedOp[int64]) sdk.KeyedFn[int64, int64, string] {
				list, sum := op.List[int64]("list", byTheClock), op.Value[int64]("sum", sdk.TTL(300*time.Millisecond))
				seen := op.Map[int64, int64]("seen", byTheClock.OnRead())
				return sdk.KeyedFn[int64, int64, string]{Each: func(c *sdk.KeyedContext[int64, string], v int64) error {
					if (v/400+v)%3 == 0 {
						return nil
					}
					list.Append(v)
					sum.Set(sum.Get() + v)
					seen.Put(v%120, v)
					c.Emit(fmt.Sprint("+", v, " ", list.Len(), " ", sum.Get(), " ", seen.Len()))
					return nil
				}}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			rows := samelyAfter(t, 1200, 1500*time.Millisecond, func(rows []string) []string { return tableOf(t, rows) }, part)
			if name == "join" && !slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, "none") }) {
				t.Error("no row met none: the silence has parted nothing")
			}
			firsts := 0
			for _, row := range rows {
				if strings.HasPrefix(row, "first ") {
					firsts++
				}
				var l, r int
				if n, _ := fmt.Sscanf(row, "%d %d", &l, &r); name == "join" && n == 2 && (l < 600) != (r < 600) {
					t.Errorf("%s met beyond the silence", row)
				}
			}
			if name == "operators" && firsts != 2*40 {
				t.Errorf("%d first rows of 40 keys, want two of each", firsts)
			}
		})
	}
}
