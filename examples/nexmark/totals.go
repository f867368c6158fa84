package nexmark

import (
	"time"

	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

// Queries that count by the day, each number over all bids and by three ranks
// of their prices.

// ranks are a number over all bids, and over those of each rank.
type ranks [4]int64

// rankOf is the rank of a price, from 1.
func rankOf(price int64) int {
	switch {
	case price < 10000:
		return 1
	case price < 1000000:
		return 2
	}
	return 3
}

// facets are the numbers that a bid of a rank counts in, a bit each.
func facets(rank int) uint64 { return 1 | 1<<rank }

// count adds one to each number of some facets.
func (r *ranks) count(facets uint64) {
	for i := range r {
		r[i] += int64(facets >> i & 1)
	}
}

// totals are the bids, the different bidders and the different auctions, and the
// last minute of the day that had one.
type totals struct {
	Bids, Bidders, Auctions ranks
	Minute                  int64
}

func (t *totals) appendTo(dst []byte) []byte {
	dst = event.AppendInts(dst, t.Bids[:]...)
	dst = event.AppendInts(dst, t.Bidders[:]...)
	return event.AppendInts(dst, t.Auctions[:]...)
}

// dayOf is the day of a time, in days since 1970.
func dayOf(ms int64) int64 { return ms / (24 * time.Hour).Milliseconds() }

// dayText is a day as text.
func dayText(day int64) string {
	return time.UnixMilli(day * (24 * time.Hour).Milliseconds()).UTC().Format(time.DateOnly)
}

// channelDay is a channel and a day.
type channelDay struct {
	Channel string
	Day     int64
}

// rankedBid is what is counted of a bid.
type rankedBid struct {
	Of              channelDay
	Auction, Bidder int64
	Minute          int16
	Rank            int8
}

// ranked is a bid as it is counted for a channel, which may be that of all.
func ranked(b *event.Bid, channel string) rankedBid {
	minute := b.DateTime / time.Minute.Milliseconds() % (24 * 60)
	return rankedBid{channelDay{channel, dayOf(b.DateTime)}, b.Auction, b.Bidder, int16(minute), int8(rankOf(b.Price))}
}

// party is a bidder or an auction, whose ids are of their own.
type party struct {
	Auction bool
	ID      int64
}

type dayTotals struct {
	Of     channelDay
	Totals totals
}

// totalsOf counts bids by channel and day.
func totalsOf(bids sdk.DataStream[rankedBid]) sdk.Updates[dayTotals] {
	return bids.KeyBy(func(b rankedBid) channelDay { return b.Of }).AsUpdates().
		AggregateDistinct("totals", sdk.Distincts[rankedBid, party, totals]{
			New: func() totals { return totals{} },
			Add: func(t *totals, b rankedBid) {
				t.Bids.count(facets(int(b.Rank)))
				t.Minute = max(t.Minute, int64(b.Minute))
			},
			Values: func(b rankedBid, each func(party, uint64)) {
				each(party{false, b.Bidder}, facets(int(b.Rank)))
				each(party{true, b.Auction}, facets(int(b.Rank)))
			},
			Came: func(t *totals, p party, facets uint64) {
				if p.Auction {
					t.Auctions.count(facets)
				} else {
					t.Bidders.count(facets)
				}
			},
		}, func(of channelDay, t totals) dayTotals { return dayTotals{of, t} })
}

// dailyTotals is q15: totals of each day.
func (j *job) dailyTotals() {
	bids := j.events.FilterMap(func(e event.Event) (rankedBid, bool) { return ranked(&e.Bid, ""), e.Kind == event.IsBid })
	table(j, totalsOf(bids), func(dst []byte, t dayTotals) []byte {
		return t.Totals.appendTo(event.AppendTexts(dst, dayText(t.Of.Day)))
	})
}

// channelTotals is q16: totals of each channel and day, and the last minute.
func (j *job) channelTotals() {
	bids := j.events.FilterMap(func(e event.Event) (rankedBid, bool) { return ranked(&e.Bid, e.Bid.Channel), e.Kind == event.IsBid })
	table(j, totalsOf(bids), func(dst []byte, t dayTotals) []byte {
		dst = event.AppendTexts(dst, t.Of.Channel, dayText(t.Of.Day))
		h, m := t.Totals.Minute/60, t.Totals.Minute%60
		dst = append(dst, '|', byte('0'+h/10), byte('0'+h%10), ':', byte('0'+m/10), byte('0'+m%10))
		return t.Totals.appendTo(dst)
	})
}

// auctionDay is an auction and a day.
type auctionDay struct{ Auction, Day int64 }

type dayPrice struct {
	Of    auctionDay
	Price int64
}

// prices are the bids of an auction on a day.
type prices struct {
	Bids          ranks
	Min, Max, Sum int64
}

type auctionDayTotals struct {
	Of     auctionDay
	Prices prices
}

// auctionTotals is q17: bids and prices of each auction and day.
func (j *job) auctionTotals() {
	bids := j.events.FilterMap(func(e event.Event) (dayPrice, bool) {
		return dayPrice{auctionDay{e.Bid.Auction, dayOf(e.Bid.DateTime)}, e.Bid.Price}, e.Kind == event.IsBid
	})
	table(j, bids.KeyBy(func(p dayPrice) auctionDay { return p.Of }).AsUpdates().
		Aggregate("prices", sdk.Aggregate[dayPrice, prices]{
			New: func() prices { return prices{} },
			Add: func(p *prices, b dayPrice) {
				if p.Bids[0] == 0 || b.Price < p.Min {
					p.Min = b.Price
				}
				p.Max, p.Sum = max(p.Max, b.Price), p.Sum+b.Price
				p.Bids.count(facets(rankOf(b.Price)))
			},
		}, func(of auctionDay, p prices) auctionDayTotals { return auctionDayTotals{of, p} }),
		func(dst []byte, t auctionDayTotals) []byte {
			dst = event.AppendTexts(event.AppendInts(dst, t.Of.Auction), dayText(t.Of.Day))
			p := &t.Prices
			return event.AppendInts(event.AppendInts(dst, p.Bids[:]...), p.Min, p.Max, p.Sum/p.Bids[0], p.Sum)
		})
}
