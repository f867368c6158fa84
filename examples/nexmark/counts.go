package nexmark

import (
	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

type runningCount struct{ Key, Count int64 }

// runningCounts is the query count: with each bid, how many there were of its
// key. It is the least that a keyed job does, so what it costs is the runtime's.
// Keys are those of q5k, of which a few have half of the bids, or as many as
// asked for, all alike.
func (j *job) runningCounts() {
	const golden = 0x9e3779b97f4a7c15
	keys := uint64(j.keys)
	counts := j.events.FilterMap(func(e event.Event) (int64, bool) {
		if keys == 0 {
			return int64(uint64(e.Bid.Auction) * golden >> 20 % 10000), e.Kind == event.IsBid
		}
		return int64(uint64(e.Number) * golden >> 20 % keys), e.Kind == event.IsBid
	}).KeyBy(func(key int64) int64 { return key }).
		Aggregate("count", sdk.Count[int64](), func(key, n int64) runningCount { return runningCount{key, n} })
	rows(j, counts, func(dst []byte, c runningCount) []byte { return event.AppendInts(dst, c.Key, c.Count) })
}
