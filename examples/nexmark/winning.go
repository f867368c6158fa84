package nexmark

import (
	"cmp"
	"slices"
	"time"

	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

// Queries over what an auction was sold for: the highest bid made while it was
// open, and of equal ones the first.

// offer is an auction, or a bid on one.
type offer struct {
	Auction int64
	// Lot is nil for a bid.
	Lot *event.Auction
	Bid purchase
}

// purchase is a bid that may win.
type purchase struct {
	Bidder, Price, DateTime, Number int64
	Extra                           string
}

// beats says whether a bid is better than the best so far.
func (p *purchase) beats(best *purchase) bool {
	return cmp.Or(cmp.Compare(p.Price, best.Price), cmp.Compare(best.DateTime, p.DateTime), cmp.Compare(best.Number, p.Number)) > 0
}

// sale is an auction that has closed, and the bid that won it.
type sale struct {
	Lot event.Auction
	Won purchase
}

func saleColumns(dst []byte, s sale) []byte {
	dst = event.AppendInts(s.Lot.AppendColumns(dst), s.Lot.ID, s.Won.Bidder, s.Won.Price, s.Won.DateTime)
	return event.AppendTexts(dst, s.Won.Extra)
}

func offerKey(o offer) int64 { return o.Auction }

// winning follows each auction until it closes. A bid may come before its
// auction, for they are read by several readers, and waits for it until event
// time has passed the bid's own: then the auction was opened later.
func winning(offers sdk.DataStream[offer]) sdk.DataStream[sale] {
	return offers.KeyBy(offerKey).Process("winning bids", func(op *sdk.KeyedOp[int64]) sdk.KeyedFn[int64, offer, sale] {
		open := op.Value[sale]("open")
		early := op.List[purchase]("early bids")
		take := func(s *sale, p purchase) bool {
			if p.DateTime < s.Lot.DateTime || p.DateTime > s.Lot.Expires || !p.beats(&s.Won) {
				return false
			}
			s.Won = p
			return true
		}
		return sdk.KeyedFn[int64, offer, sale]{
			Each: func(c *sdk.KeyedContext[int64, sale], o offer) error {
				s, known := open.Lookup()
				switch {
				case o.Lot != nil:
					s.Lot = *o.Lot
					for p := range early.All() {
						take(&s, p)
					}
					early.Clear()
					open.Set(s)
					c.SetTimer(time.UnixMilli(s.Lot.Expires))
				case !known:
					if early.Len() == 0 {
						c.SetTimer(c.Time())
					}
					early.Append(o.Bid)
				case take(&s, o.Bid):
					open.Set(s)
				}
				return nil
			},
			OnTimer: func(c *sdk.KeyedContext[int64, sale]) error {
				s, known := open.Lookup()
				switch {
				case !known:
					// Their auction opens later, or never does. One timer does for
					// all that wait.
					last := c.Time().UnixMilli()
					early.Retain(func(p purchase) bool {
						last = max(last, p.DateTime)
						return p.DateTime > c.Time().UnixMilli()
					})
					if early.Len() > 0 {
						c.SetTimer(time.UnixMilli(last))
					}
				case s.Lot.Expires == c.Time().UnixMilli():
					open.Clear()
					if s.Won.Price > 0 {
						c.Emit(s)
					}
				}
				return nil
			},
		}
	})
}

// winningBids is q9: each auction with the bid that won it.
func (j *job) winningBids() {
	rows(j, winning(j.events.FilterMap(func(e event.Event) (offer, bool) {
		switch e.Kind {
		case event.IsAuction:
			return offer{Auction: e.Auction.ID, Lot: e.Auction}, true
		case event.IsBid:
			return offer{Auction: e.Bid.Auction, Bid: purchase{e.Bid.Bidder, e.Bid.Price, e.Bid.DateTime, e.Number, e.Bid.Extra}}, true
		}
		return offer{}, false
	})), saleColumns)
}

// sales are the auctions that were sold, without texts.
func (j *job) sales() sdk.DataStream[sale] {
	return winning(j.events.FilterMap(func(e event.Event) (offer, bool) {
		switch a := e.Auction; e.Kind {
		case event.IsAuction:
			return offer{Auction: a.ID, Lot: &event.Auction{ID: a.ID, DateTime: a.DateTime, Expires: a.Expires, Seller: a.Seller, Category: a.Category}}, true
		case event.IsBid:
			return offer{Auction: e.Bid.Auction, Bid: purchase{Price: e.Bid.Price, DateTime: e.Bid.DateTime, Number: e.Number}}, true
		}
		return offer{}, false
	}))
}

// categoryAverages is q4: what things of each category were sold for on average.
func (j *job) categoryAverages() {
	table(j, j.sales().KeyBy(func(s sale) int64 { return s.Lot.Category }).AsUpdates().
		Aggregate("averages", sdk.MeanOf(func(s sale) int64 { return s.Won.Price }),
			func(category int64, m sdk.Mean[int64]) idPrice { return idPrice{category, m.Truncated()} }),
		idPriceColumns)
}

// sold is an auction in the order in which a seller's are counted.
type sold struct{ Seller, Expires, ID, Price int64 }

// lastSold is how many of a seller's auctions count.
const lastSold = 10

// lastPrices are those of the last auctions, the oldest first.
type lastPrices struct {
	Of [lastSold]int64
	N  int64
}

// add adds a price and returns the average.
func (p *lastPrices) add(price int64) int64 {
	if p.N == lastSold {
		copy(p.Of[:], p.Of[1:])
		p.N--
	}
	p.Of[p.N] = price
	p.N++
	sum := int64(0)
	for _, price := range p.Of[:p.N] {
		sum += price
	}
	return sum / p.N
}

// sellerAverages is q6: what the last ten things of a seller were sold for on
// average, each time that one is.
func (j *job) sellerAverages() {
	sales := j.sales().Map(func(s sale) sold { return sold{s.Lot.Seller, s.Lot.Expires, s.Lot.ID, s.Won.Price} })
	rows(j, sales.KeyBy(func(s sold) int64 { return s.Seller }).
		Process("last sold", func(op *sdk.KeyedOp[int64]) sdk.KeyedFn[int64, sold, idPrice] {
			// What has come, until event time says that nothing earlier will.
			waiting := op.Value[[]sold]("waiting")
			prices := op.Value[lastPrices]("prices")
			return sdk.KeyedFn[int64, sold, idPrice]{
				Each: func(c *sdk.KeyedContext[int64, idPrice], s sold) error {
					waiting.Update(func(w *[]sold) { *w = append(*w, s) })
					c.SetTimer(c.Time())
					return nil
				},
				OnTimer: func(c *sdk.KeyedContext[int64, idPrice]) error {
					last, now := prices.Get(), c.Time().UnixMilli()
					waiting.Update(func(w *[]sold) {
						slices.SortFunc(*w, func(a, b sold) int {
							return cmp.Or(cmp.Compare(a.Expires, b.Expires), cmp.Compare(a.ID, b.ID))
						})
						due := 0
						for ; due < len(*w) && (*w)[due].Expires <= now; due++ {
							s := (*w)[due]
							c.Emit(idPrice{s.Seller, last.add(s.Price)})
						}
						*w = slices.Delete(*w, 0, due)
					})
					prices.Set(last)
					return nil
				},
			}
		}), idPriceColumns)
}
