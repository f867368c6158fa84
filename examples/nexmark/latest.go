package nexmark

import (
	"cmp"

	"github.com/millrace/millrace/examples/nexmark/event"
)

// Queries that keep some bids of each key: the last one, or the highest.

// wholeBid is a bid with all of its columns, and its number.
type wholeBid struct {
	Bid    event.Bid
	Number int64
}

func wholeBids(e event.Event) (wholeBid, bool) {
	return wholeBid{e.Bid, e.Number}, e.Kind == event.IsBid
}

// pair is a bidder and an auction.
type pair struct{ Bidder, Auction int64 }

// lastBids is q18: the last bid of each bidder on each auction.
func (j *job) lastBids() {
	table(j, j.events.FilterMap(wholeBids).
		KeyBy(func(b wholeBid) pair { return pair{b.Bid.Bidder, b.Bid.Auction} }).
		Best("last bids", func(b, than wholeBid) bool {
			return cmp.Or(cmp.Compare(b.Bid.DateTime, than.Bid.DateTime), cmp.Compare(b.Number, than.Number)) > 0
		}),
		func(dst []byte, b wholeBid) []byte { return b.Bid.AppendColumns(dst) })
}

// rankedWhole is a bid and its rank among those of its auction.
type rankedWhole struct {
	Bid  wholeBid
	Rank int64
}

// topBids is q19: the ten highest bids of each auction.
func (j *job) topBids() {
	table(j, j.events.FilterMap(wholeBids).
		KeyBy(func(b wholeBid) int64 { return b.Bid.Auction }).AsUpdates().
		TopNRanked("top bids", 10, func(a, b wholeBid) bool {
			return cmp.Or(cmp.Compare(b.Bid.Price, a.Bid.Price), cmp.Compare(a.Number, b.Number)) < 0
		}, func(rank int, b wholeBid) rankedWhole { return rankedWhole{b, int64(rank)} }),
		func(dst []byte, r rankedWhole) []byte { return event.AppendInts(r.Bid.Bid.AppendColumns(dst), r.Rank) })
}
