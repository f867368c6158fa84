package nexmark

import (
	"strconv"
	"time"

	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

// Queries that join bids, auctions and people.
//
// Something is bid on and sold for a while only, so the joins keep records no
// longer than what they wait for can come, generously counted in events.
const (
	// early is how long before its auction a bid may come, and before its seller
	// an auction.
	early = 2_000
	// onSale is how long an auction is bid on, and active how long somebody bids
	// and sells.
	onSale = 5_000
	active = 100_000
)

// span is the event time of so many events.
func (j *job) span(events int64) time.Duration {
	return time.Duration(events*1000/j.rate+1) * time.Millisecond
}

// sideInput is q13: every bid, with a value from a table that does not change.
func (j *job) sideInput() {
	const entries = 10000
	values := make(map[int64]string, entries)
	for i := range int64(entries) {
		values[i] = strconv.FormatInt(i, 10)
	}
	rows(j, j.shortBids().Lookup(sdk.MemoryTable(values), func(b bid) int64 { return b.Auction % entries }).
		Inner(func(b bid, value string) bid {
			b.Text = value
			return b
		}), bidColumns)
}

func idOf(p event.Person) int64 { return p.ID }

func sellerOf(a event.Auction) int64 { return a.Seller }

func (j *job) people() sdk.DataStream[event.Person] {
	return j.events.FilterMap(func(e event.Event) (p event.Person, ok bool) {
		if e.Kind != event.IsPerson {
			return p, false
		}
		return *e.Person, true
	})
}

func (j *job) auctions() sdk.DataStream[event.Auction] {
	return j.events.FilterMap(func(e event.Event) (a event.Auction, ok bool) {
		if e.Kind != event.IsAuction {
			return a, false
		}
		return *e.Auction, true
	})
}

func (j *job) bids() sdk.DataStream[event.Bid] {
	return j.events.FilterMap(func(e event.Event) (event.Bid, bool) { return e.Bid, e.Kind == event.IsBid })
}

// wanted is the category of q3 and q20.
const wanted = 10

func isWanted(a event.Auction) bool { return a.Category == wanted }

// listing is an auction and its seller.
type listing struct {
	Seller event.Person
	Lot    event.Auction
}

// listings are auctions with their sellers.
func (j *job) listings(sellers sdk.DataStream[event.Person], lots sdk.DataStream[event.Auction]) sdk.DataStream[listing] {
	return sellers.KeyBy(idOf).Join(lots.KeyBy(sellerOf)).Retain(j.span(active), j.span(early)).
		Inner("sellers", func(p event.Person, a event.Auction) listing { return listing{p, a} })
}

// localItems is q3: who sells things of a category in some states.
func (j *job) localItems() {
	sellers := j.people().Filter(func(p event.Person) bool { return p.State == "OR" || p.State == "ID" || p.State == "CA" })
	rows(j, j.listings(sellers, j.auctions().Filter(isWanted)), func(dst []byte, l listing) []byte {
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
	lots := j.auctions().Filter(isWanted).KeyBy(func(a event.Auction) int64 { return a.ID })
	joined := j.bids().KeyBy(func(b event.Bid) int64 { return b.Auction }).
		Join(lots).Retain(j.span(early), j.span(onSale)).
		Inner("lots", func(b event.Bid, a event.Auction) lotBid { return lotBid{b, a} })
	rows(j, joined, func(dst []byte, r lotBid) []byte { return appendLot(r.Bid.AppendColumns(dst), &r.Lot) })
}

// sellersBid is a bid, and something that the bidder sells.
type sellersBid struct {
	Bid  event.Bid
	Sold listing
}

// sellersBids is q23: bids of people who sell, with each thing that they sell.
func (j *job) sellersBids() {
	listings := j.listings(j.people(), j.auctions()).KeyBy(func(l listing) int64 { return l.Seller.ID })
	joined := j.bids().KeyBy(func(b event.Bid) int64 { return b.Bidder }).
		Join(listings).Retain(j.span(active), j.span(active)).
		Inner("bids of sellers", func(b event.Bid, l listing) sellersBid { return sellersBid{b, l} })
	rows(j, joined, func(dst []byte, r sellersBid) []byte {
		dst = event.AppendInts(dst, r.Bid.Bidder, r.Bid.Price)
		dst = event.AppendTexts(dst, r.Bid.Channel, r.Bid.URL, r.Bid.Extra)
		p := &r.Sold.Seller
		dst = event.AppendTexts(event.AppendInts(dst, p.ID), p.Name, p.EmailAddress, p.CreditCard, p.City, p.State, p.Extra)
		return appendLot(dst, &r.Sold.Lot)
	})
}
