package nexmark

import (
	"slices"
	"time"

	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

// Queries over windows of time.

const windowSize = 10 * time.Second

// counted is how many bids a key has in a window.
type counted struct{ Key, Bids, Start, End int64 }

func countedIn(w sdk.Window, key, bids int64) counted {
	return counted{key, bids, w.Start.UnixMilli(), w.End.UnixMilli()}
}

func countColumns(dst []byte, c counted) []byte { return event.AppendInts(dst, c.Key, c.Bids) }

// by are the keys of all bids.
func (j *job) by(key func(event.Event) (int64, bool)) sdk.KeyedStream[int64, int64] {
	return j.events.FilterMap(key).KeyBy(func(key int64) int64 { return key })
}

func auctionOf(e event.Event) (int64, bool) { return e.Bid.Auction, e.Kind == event.IsBid }

func bidderOf(e event.Event) (int64, bool) { return e.Bid.Bidder, e.Kind == event.IsBid }

// hotItems is q5: of each window the auctions with the most bids.
func (j *job) hotItems() {
	rows(j, j.by(auctionOf).Window(sdk.Sliding(windowSize, j.slide)).
		Top("hot items", 1, sdk.Count[int64](), func(n int64) int64 { return n }, countedIn), countColumns)
}

// slidingCounts is q5k: bids of ten thousand keys, counted in windows of which
// a thousand overlap.
func (j *job) slidingCounts() {
	const golden = 0x9e3779b97f4a7c15
	rows(j, j.by(func(e event.Event) (int64, bool) {
		return int64(uint64(e.Bid.Auction) * golden >> 20 % 10000), e.Kind == event.IsBid
	}).
		Window(sdk.Sliding(windowSize, 10*time.Millisecond)).
		Aggregate("bids per key", sdk.Count[int64](), countedIn),
		func(dst []byte, c counted) []byte { return event.AppendInts(dst, c.Key, c.Bids, c.End) })
}

// highest are the bids of the greatest price within a window, and all at its
// edges: those at its end count if they reach that price, and do not raise it.
type highest struct {
	Price       int64
	Bids, Edges []bid
}

// add takes in bids from between the edges.
func (h *highest) add(price int64, bids ...bid) {
	switch {
	case price < h.Price:
	case price > h.Price:
		h.Price, h.Bids = price, slices.Clone(bids)
	default:
		h.Bids = append(h.Bids, bids...)
	}
}

// highestBids is q7: the highest bids of each window.
func (j *job) highestBids() {
	rows(j, highestOf(j.shortBids()), func(dst []byte, b bid) []byte {
		return event.AppendTexts(event.AppendInts(dst, b.Auction, b.Price, b.Bidder, b.DateTime), b.Text)
	})
}

// highestOf are the highest bids of each window. It is one with both its ends, so
// that a bid in the millisecond where two meet is in both.
func highestOf(bids sdk.DataStream[bid]) sdk.DataStream[bid] {
	size := windowSize.Milliseconds()
	top := bids.WindowAll(sdk.Sliding(windowSize+time.Millisecond, windowSize)).Aggregate("highest bids", sdk.Aggregate[bid, highest]{
		New: func() highest { return highest{} },
		Add: func(h *highest, b bid) {
			switch {
			case b.DateTime%size == 0:
				h.Edges = append(h.Edges, b)
			case b.Price >= h.Price:
				h.add(b.Price, b)
			}
		},
		Merge: func(a, b *highest) {
			a.add(b.Price, b.Bids...)
			a.Edges = append(a.Edges, b.Edges...)
		},
	}, func(w sdk.Window, h highest) highest {
		top := highest{Price: h.Price, Bids: slices.Clone(h.Bids)}
		for _, b := range h.Edges {
			if b.DateTime == w.Start.UnixMilli() {
				top.add(b.Price, b)
			}
		}
		for _, b := range h.Edges {
			if b.DateTime != w.Start.UnixMilli() && b.Price == top.Price {
				top.Bids = append(top.Bids, b)
			}
		}
		return top
	})
	return top.FlatMap(func(h highest, emit func(bid)) {
		for _, b := range h.Bids {
			emit(b)
		}
	})
}

type newUser struct {
	ID    int64
	Name  string
	Start int64
}

// appearance is that somebody registered, or put something up for auction.
type appearance struct {
	ID         int64
	Registered bool
	Name       string
}

// presence is what somebody did in a window.
type presence struct {
	Name            string
	Registered, Has bool
}

// newUsers is q8: people who put something up for auction in the window in
// which they registered.
func (j *job) newUsers() {
	seen := j.events.FilterMap(func(e event.Event) (appearance, bool) {
		switch e.Kind {
		case event.IsPerson:
			return appearance{e.Person.ID, true, e.Person.Name}, true
		case event.IsAuction:
			return appearance{ID: e.Auction.Seller}, true
		}
		return appearance{}, false
	}).KeyBy(func(a appearance) int64 { return a.ID }).
		Window(sdk.Tumbling(windowSize)).
		Aggregate("newcomers", sdk.Aggregate[appearance, presence]{
			New: func() presence { return presence{} },
			Add: func(p *presence, a appearance) {
				if a.Registered {
					p.Registered, p.Name = true, a.Name
				} else {
					p.Has = true
				}
			},
		}, func(w sdk.Window, id int64, p presence) newUser {
			if !p.Registered || !p.Has {
				return newUser{}
			}
			return newUser{id, p.Name, w.Start.UnixMilli()}
		})
	rows(j, seen.Filter(func(u newUser) bool { return u.ID != 0 }), func(dst []byte, u newUser) []byte {
		return event.AppendInts(event.AppendTexts(event.AppendInts(dst, u.ID), u.Name), u.Start)
	})
}

// sessions is q11: how often somebody bid without a pause of more than ten
// seconds. A session's records are less than its gap apart, so the gap is a
// millisecond more.
func (j *job) sessions() {
	rows(j, j.by(bidderOf).Window(sdk.Session(windowSize+time.Millisecond)).
		Aggregate("sessions", sdk.Count[int64](), countedIn),
		func(dst []byte, c counted) []byte { return event.AppendInts(dst, c.Key, c.Bids, c.Start, c.End-1) })
}

// perMachineTime is q12: how often somebody bid within ten seconds of the
// machine's clock. Only the sums over all windows are the same in each run, so
// those are what is compared.
func (j *job) perMachineTime() {
	counts := j.by(bidderOf).Window(sdk.Tumbling(windowSize).InProcessingTime()).
		Aggregate("bids by the clock", sdk.Count[int64](), countedIn)
	if !j.hash {
		rows(j, counts, countColumns)
		return
	}
	table(j, counts.KeyBy(func(c counted) int64 { return c.Key }).AsUpdates().
		Aggregate("bids per bidder", sdk.Sum(func(c counted) int64 { return c.Bids }),
			func(bidder, bids int64) counted { return counted{Key: bidder, Bids: bids} }), countColumns)
}
