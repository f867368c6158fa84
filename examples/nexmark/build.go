package nexmark

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/connector/files"
	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/examples/nexmark/generator"
	"github.com/millrace/millrace/examples/nexmark/lateness"
	"github.com/millrace/millrace/sdk"
)

// job is what a query is made of.
type job struct {
	query  string
	events sdk.DataStream[event.Event]
	// rate is the number of events in a second of event time.
	rate  int64
	slide time.Duration
	// hash asks for the sums of all rows, which go to lines.
	hash  bool
	lines sdk.Sink[string]
	// folder is for the files of q10, "" for none.
	folder string
	// keys are those of count, 0 for q5k's.
	keys int
	late lateness.Schedule
	env  *sdk.Env
}

// queries adds each query to a job.
var queries = map[string]func(*job){
	"q0": (*job).passThrough, "q1": (*job).currency, "q2": (*job).selection, "q3": (*job).localItems,
	"q4": (*job).categoryAverages, "q5": (*job).hotItems, "q5k": (*job).slidingCounts,
	"q6": (*job).sellerAverages, "q7": (*job).highestBids, "q8": (*job).newUsers,
	"q9": (*job).winningBids, "q10": (*job).toFiles, "q11": (*job).sessions,
	"q12": (*job).perMachineTime, "q13": (*job).sideInput, "q14": (*job).calculation,
	"q15": (*job).dailyTotals, "q16": (*job).channelTotals, "q17": (*job).auctionTotals,
	"q18": (*job).lastBids, "q19": (*job).topBids, "q20": (*job).bidsWithLots,
	"q21": (*job).channelIDs, "q22": (*job).directories, "q23": (*job).sellersBids,
}

// seed is a flag's value: the whole of 64 bits, where a flag for whole numbers
// has a sign.
type seed uint64

func (s *seed) String() string { return strconv.FormatUint(uint64(*s), 10) }

func (s *seed) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("a seed is a whole number from 0 to %d", uint64(math.MaxUint64))
	}
	*s = seed(n)
	return nil
}

// probes are queries that are not Nexmark's: they measure the runtime.
var probes = map[string]func(*job){"count": (*job).runningCounts}

// Probes are the names of the queries that measure the runtime.
func Probes() []string { return slices.Sorted(maps.Keys(probes)) }

// Queries are the names of all queries, in order.
func Queries() []string {
	return slices.SortedFunc(maps.Keys(queries), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
}

// Build describes the job; its arguments choose the query and the events.
func Build(env *sdk.Env) error {
	query := env.String("query", "q0", "q0 to q23, q5k: a keyed count in windows of 10 s by 10 ms, or count: a running one")
	s := seed(1)
	env.Var(&s, "seed", "seed of the events")
	c := generator.Config{
		Events:   int64(env.Int("events", 1_000_000, "number of events")),
		Seed:     uint64(s),
		Rate:     env.Int("rate", 10_000, "events in a second of event time"),
		Group:    int64(env.Int("out-of-order", 0, "shuffle each run of so many events; 0 leaves them in order")),
		Throttle: int64(env.Int("throttle", 0, "events a second by the clock; 0 is as fast as can be")),
		Start:    int64(env.Int("start", 0, "when a throttled job's first event comes, in ms since 1970; 0 is when the job begins")),
	}
	j := &job{
		query:  query,
		rate:   int64(c.Rate),
		slide:  env.Duration("slide", 2*time.Second, "how often a window of q5 begins"),
		hash:   env.Bool("hash", false, "write count and sums of all rows, as one line at the end, to a file in the output folder"),
		folder: env.String("output", "", "folder or bucket for the sums, and for the files of q10; the same on every machine"),
		keys:   env.Int("keys", 0, "number of keys of count; 0 takes the ten thousand of q5k"),
		late: lateness.Schedule{
			Events: c,
			Folder: env.String("latencies", "", "folder for how late rows of a throttled job are; none is measured without it"),
			WarmUp: env.Duration("warm-up", 0, "how long after the first event rows do not count for latencies"),
		},
		env: env,
	}
	env.Name("nexmark-" + query)
	env.Doc("A query of the Nexmark benchmark over generated events.")
	add, ok := queries[query]
	if !ok {
		add, ok = probes[query]
	}
	if !ok {
		return &sdk.UsageError{Err: fmt.Errorf("flag --query: there is no %q, only %s", query, strings.Join(append(Queries(), Probes()...), ", "))}
	}
	if err := c.Check(); err != nil {
		return &sdk.UsageError{Err: err}
	}
	if j.keys < 0 {
		return &sdk.UsageError{Err: fmt.Errorf("--keys %d: a number of keys, or 0 for the ten thousand of q5k", j.keys)}
	}
	if j.hash {
		if j.folder == "" {
			return &sdk.UsageError{Err: fmt.Errorf("--hash writes a file: name its folder with --output")}
		}
		j.lines = files.Sink(j.folder, files.Lines(sdk.Lines()))
	}
	bound := c.OutOfOrderness()
	if query == "q11" {
		// A session may be touched by a bid that comes when it has just ended.
		bound += 4 * time.Second
	}
	j.events = sdk.From(env, generator.Source(c)).WithTimestamps(sdk.SourceTimes[event.Event](bound))
	add(j)
	return nil
}
