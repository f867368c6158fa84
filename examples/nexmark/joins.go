package nexmark

import (
	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

// Queries that join people, auctions and bids.

// lookup joins each record of a stream with the one of its key in another: there
// is at most one, which may come later, and then what came before it waits. When
// wanted says that it is none to join with, what waits for it is dropped.
func lookup[One, Many, Out any](name string, ones sdk.KeyedStream[int64, One], many sdk.KeyedStream[int64, Many],
	wanted func(One) bool, join func(One, Many) Out) sdk.DataStream[Out] {
	return ones.Connect(many).Process(name, func(op *sdk.KeyedOp[int64]) sdk.CoFn[int64, One, Many, Out] {
		found := op.Value[One]("found")
		waiting := op.List[Many]("waiting")
		return sdk.CoFn[int64, One, Many, Out]{
			Left: func(c *sdk.KeyedContext[int64, Out], one One) error {
				found.Set(one)
				if wanted(one) {
					for m := range waiting.All() {
						c.Emit(join(one, m))
					}
				}
				waiting.Clear()
				return nil
			},
			Right: func(c *sdk.KeyedContext[int64, Out], m Many) error {
				switch one, ok := found.Lookup(); {
				case !ok:
					waiting.Append(m)
				case wanted(one):
					c.Emit(join(one, m))
				}
				return nil
			},
		}
	})
}

// seller is who may sell: all that q3 and q23 ask of people.
type seller struct {
	Person event.Person
	Wanted bool
}

func isWanted(s seller) bool { return s.Wanted }

// listing is an auction and its seller.
type listing struct {
	Seller event.Person
	Lot    event.Auction
}

// listings are the wanted auctions of the wanted people. Of the others no more
// goes on than that there are none.
func (j *job) listings(people func(event.Person) bool, lots func(event.Auction) (event.Auction, bool)) sdk.DataStream[listing] {
	sellers := j.events.FilterMap(func(e event.Event) (seller, bool) {
		switch {
		case e.Kind != event.IsPerson:
			return seller{}, false
		case people(*e.Person):
			return seller{*e.Person, true}, true
		}
		return seller{Person: event.Person{ID: e.Person.ID}}, true
	})
	sold := j.events.FilterMap(func(e event.Event) (event.Auction, bool) {
		if e.Kind != event.IsAuction {
			return event.Auction{}, false
		}
		return lots(*e.Auction)
	})
	return lookup("sellers", sellers.KeyBy(func(s seller) int64 { return s.Person.ID }),
		sold.KeyBy(func(a event.Auction) int64 { return a.Seller }), isWanted,
		func(s seller, a event.Auction) listing { return listing{s.Person, a} })
}

// localItems is q3: who sells things of a category in some states.
func (j *job) localItems() {
	const category = 10
	local := j.listings(
		func(p event.Person) bool { return p.State == "OR" || p.State == "ID" || p.State == "CA" },
		func(a event.Auction) (event.Auction, bool) {
			return event.Auction{ID: a.ID, Seller: a.Seller}, a.Category == category
		})
	rows(j, local, func(dst []byte, l listing) []byte {
		return event.AppendInts(event.AppendTexts(dst, l.Seller.Name, l.Seller.City, l.Seller.State), l.Lot.ID)
	})
}

// lotBid is a bid and its auction.
type lotBid struct {
	Bid event.Bid
	Lot event.Auction
}

// appendLot appends the columns of an auction besides its id.
func appendLot(dst []byte, a *event.Auction) []byte {
	dst = event.AppendTexts(dst, a.ItemName, a.Description)
	dst = event.AppendInts(dst, a.InitialBid, a.Reserve, a.DateTime, a.Expires, a.Seller, a.Category)
	return event.AppendTexts(dst, a.Extra)
}

// bidsWithLots is q20: bids with their auctions, of one category.
func (j *job) bidsWithLots() {
	const category = 10
	lots := j.events.FilterMap(func(e event.Event) (event.Auction, bool) {
		switch {
		case e.Kind != event.IsAuction:
			return event.Auction{}, false
		case e.Auction.Category == category:
			return *e.Auction, true
		}
		return event.Auction{ID: e.Auction.ID}, true
	})
	bids := j.events.FilterMap(func(e event.Event) (event.Bid, bool) { return e.Bid, e.Kind == event.IsBid })
	joined := lookup("lots", lots.KeyBy(func(a event.Auction) int64 { return a.ID }),
		bids.KeyBy(func(b event.Bid) int64 { return b.Auction }),
		func(a event.Auction) bool { return a.Category == category },
		func(a event.Auction, b event.Bid) lotBid { return lotBid{b, a} })
	rows(j, joined, func(dst []byte, r lotBid) []byte { return appendLot(r.Bid.AppendColumns(dst), &r.Lot) })
}

// sellersBid is a bid, and something that the bidder sells.
type sellersBid struct {
	Bid  event.Bid
	Sold listing
}

// sellersBids is q23: bids of people who sell, with each thing that they sell.
func (j *job) sellersBids() {
	listings := j.listings(func(event.Person) bool { return true }, func(a event.Auction) (event.Auction, bool) { return a, true })
	bids := j.events.FilterMap(func(e event.Event) (event.Bid, bool) { return e.Bid, e.Kind == event.IsBid })
	joined := listings.KeyBy(func(l listing) int64 { return l.Lot.Seller }).
		Connect(bids.KeyBy(func(b event.Bid) int64 { return b.Bidder })).
		Process("bids of sellers", func(op *sdk.KeyedOp[int64]) sdk.CoFn[int64, listing, event.Bid, sellersBid] {
			sold, made := op.List[listing]("sold"), op.List[event.Bid]("bids")
			return sdk.CoFn[int64, listing, event.Bid, sellersBid]{
				Left: func(c *sdk.KeyedContext[int64, sellersBid], l listing) error {
					sold.Append(l)
					for b := range made.All() {
						c.Emit(sellersBid{b, l})
					}
					return nil
				},
				Right: func(c *sdk.KeyedContext[int64, sellersBid], b event.Bid) error {
					made.Append(b)
					for l := range sold.All() {
						c.Emit(sellersBid{b, l})
					}
					return nil
				},
			}
		})
	rows(j, joined, func(dst []byte, r sellersBid) []byte {
		dst = event.AppendInts(dst, r.Bid.Bidder, r.Bid.Price)
		dst = event.AppendTexts(dst, r.Bid.Channel, r.Bid.URL, r.Bid.Extra)
		p := &r.Sold.Seller
		dst = event.AppendTexts(event.AppendInts(dst, p.ID), p.Name, p.EmailAddress, p.CreditCard, p.City, p.State, p.Extra)
		return appendLot(dst, &r.Sold.Lot)
	})
}
