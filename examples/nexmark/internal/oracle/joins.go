package oracle

import (
	"slices"
	"sort"

	"github.com/millrace/millrace/examples/nexmark/event"
)

// auctionsOf are the places of somebody's auctions.
func (in *Input) auctionsOf(seller int64) (places []int) {
	if in.bySeller == nil {
		in.bySeller = map[int64][]int{}
		for i, a := range in.auctions {
			in.bySeller[a.Seller] = append(in.bySeller[a.Seller], i)
		}
	}
	return in.bySeller[seller]
}

// auction is the auction of an id, if it is among the events.
func (in *Input) auction(id int64) (event.Auction, bool) {
	i := sort.Search(len(in.auctions), func(i int) bool { return in.auctions[i].ID >= id })
	if i == len(in.auctions) || in.auctions[i].ID != id {
		return event.Auction{}, false
	}
	return in.auctions[i], true
}

func (in *Input) q3() (rows []string) {
	for _, p := range in.people {
		if p.State != "OR" && p.State != "ID" && p.State != "CA" {
			continue
		}
		for _, i := range in.auctionsOf(p.ID) {
			if a := in.auctions[i]; a.Category == 10 {
				rows = append(rows, row(p.Name, p.City, p.State, a.ID))
			}
		}
	}
	return rows
}

// winner is an auction and the bid that won it.
type winner struct {
	event.Auction
	bid numbered
}

func (in *Input) winners() (all []winner) {
	best := map[int64]numbered{}
	for _, b := range in.bids {
		a, ok := in.auction(b.Auction)
		if !ok || b.DateTime < a.DateTime || b.DateTime > a.Expires {
			continue
		}
		// Bids are in order of time and number here, so the first stays.
		if w, any := best[a.ID]; !any || b.Price > w.Price {
			best[a.ID] = b
		}
	}
	for _, a := range in.auctions {
		if b, ok := best[a.ID]; ok {
			all = append(all, winner{a, b})
		}
	}
	return all
}

func (in *Input) q4() (rows []string) {
	prices := map[int64][]int64{}
	for _, w := range in.winners() {
		prices[w.Category] = append(prices[w.Category], w.bid.Price)
	}
	for category, all := range prices {
		rows = append(rows, row(category, mean(all)))
	}
	return rows
}

func mean(all []int64) int64 {
	sum := int64(0)
	for _, v := range all {
		sum += v
	}
	return sum / int64(len(all))
}

func (in *Input) q6() (rows []string) {
	all := in.winners()
	slices.SortStableFunc(all, func(a, b winner) int { return int(a.Expires - b.Expires) })
	prices := map[int64][]int64{}
	for _, w := range all {
		of := append(prices[w.Seller], w.bid.Price)
		prices[w.Seller] = of
		rows = append(rows, row(w.Seller, mean(of[max(0, len(of)-10):])))
	}
	return rows
}

func (in *Input) q9() (rows []string) {
	for _, w := range in.winners() {
		rows = append(rows, row(w.ID, w.ItemName, w.Description, w.InitialBid, w.Reserve, w.DateTime, w.Expires, w.Seller, w.Category, w.Extra,
			w.ID, w.bid.Bidder, w.bid.Price, w.bid.DateTime, w.bid.Extra))
	}
	return rows
}

// columns are those of a whole bid.
func columns(b numbered) []any {
	return []any{b.Auction, b.Bidder, b.Price, b.Channel, b.URL, b.DateTime, b.Extra}
}

func (in *Input) q18() (rows []string) {
	last := map[[2]int64]numbered{}
	for _, b := range in.bids {
		last[[2]int64{b.Bidder, b.Auction}] = b
	}
	for _, b := range last {
		rows = append(rows, row(columns(b)...))
	}
	return rows
}

func (in *Input) q19() (rows []string) {
	bids := map[int64][]numbered{}
	for _, b := range in.bids {
		bids[b.Auction] = append(bids[b.Auction], b)
	}
	for _, all := range bids {
		slices.SortStableFunc(all, func(a, b numbered) int { return int(b.Price - a.Price) })
		for i, b := range all[:min(len(all), 10)] {
			rows = append(rows, row(append(columns(b), i+1)...))
		}
	}
	return rows
}

func (in *Input) q20() (rows []string) {
	for _, b := range in.bids {
		if a, ok := in.auction(b.Auction); ok && a.Category == 10 {
			rows = append(rows, row(append(columns(b), a.ItemName, a.Description, a.InitialBid, a.Reserve, a.DateTime, a.Expires,
				a.Seller, a.Category, a.Extra)...))
		}
	}
	return rows
}

func (in *Input) q23() (rows []string) {
	people := map[int64]event.Person{}
	for _, p := range in.people {
		people[p.ID] = p
	}
	for _, b := range in.bids {
		p, ok := people[b.Bidder]
		if !ok {
			continue
		}
		for _, i := range in.auctionsOf(p.ID) {
			a := in.auctions[i]
			rows = append(rows, row(b.Bidder, b.Price, b.Channel, b.URL, b.Extra,
				p.ID, p.Name, p.EmailAddress, p.CreditCard, p.City, p.State, p.Extra,
				a.ItemName, a.Description, a.InitialBid, a.Reserve, a.DateTime, a.Expires, a.Seller, a.Category, a.Extra))
		}
	}
	return rows
}
