package jointest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

// tableOf adds up changes, "+row" or "-row", and returns the rows in order.
func tableOf(t *testing.T, changes []string) (rows []string) {
	t.Helper()
	count := map[string]int{}
	for _, change := range changes {
		if change[0] == '+' {
			count[change[1:]]++
		} else {
			count[change[1:]]--
		}
	}
	for row, n := range count {
		if n < 0 {
			t.Errorf("%s went more often than it came", row)
		}
		for range n {
			rows = append(rows, row)
		}
	}
	slices.Sort(rows)
	return rows
}

// ranking is the least three scrambled numbers of each of 40 keys, and several
// tables of that table, as changes.
func ranking(in sdk.DataStream[int64]) sdk.Updates[string] {
	score := func(v int64) int64 { return int64(uint64(v+1) * 0x9e3779b97f4a7c15 >> 30) }
	before := func(a, b int64) bool { return score(a) < score(b) }
	top := in.KeyBy(func(v int64) int64 { return v % 40 }).AsUpdates().TopN("least", 3, before)
	sums := top.KeyBy(func(v int64) int64 { return v % 4 }).
		Aggregate("sums", sdk.Sum(score), func(key, sum int64) string { return fmt.Sprint("sum ", key, " ", sum) })
	first := top.KeyBy(func(v int64) int64 { return v % 5 }).
		TopNRanked("first", 2, before, func(rank int, v int64) string { return fmt.Sprint("first ", v%5, " ", rank, " ", v) })
	kinds := top.KeyBy(func(v int64) int64 { return v % 7 }).
		CountDistinct("kinds", func(v int64) int64 { return v % 11 }, func(key, n int64) string { return fmt.Sprint("kinds ", key, " ", n) })
	return sums.Union(first, kinds)
}

func asText(op sdk.Change, row string) string { return op.String() + row }

// TestUpdatesAddUpToTheSame: whatever happens to the job, its changes add up to one
// table, which a batch run of it shows at the end, and nothing else.
func TestUpdatesAddUpToTheSame(t *testing.T) {
	const n = 3000
	reduce := func(rows []string) []string {
		return tableOf(t, rows)
	}
	want := samelyBy(t, n, reduce, func(in sdk.DataStream[int64]) sdk.DataStream[string] { return ranking(in).Changes(asText) })
	if len(want) != 4+5*2+7 {
		t.Errorf("%d rows in the table", len(want))
	}
	for _, parallelism := range []int{1, 3} {
		out := sdktest.Collect[string]()
		sdktest.Run(t, func(env *sdk.Env) error {
			env.Parallelism(parallelism)
			if !env.InBatch() {
				t.Error("the job does not know that it runs in batch")
			}
			ranking(sdk.From(env, sdk.Generate(n, func(i int64) int64 { return i })).Named("numbers")).Changes(asText).To(out)
			return nil
		}, "--batch")
		got := out.Values()
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], "+")
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in batch, %d subtasks (-want +got):\n%s", parallelism, diff)
		}
	}
}
