package oracle

import (
	"slices"
	"time"
)

func (in *Input) q5(slide int64) (rows []string) {
	windows := in.counts(slide, func(b numbered) int64 { return b.Auction })
	for _, counts := range windows {
		most := int64(0)
		for _, n := range counts {
			most = max(most, n)
		}
		for auction, n := range counts {
			if n == most {
				rows = append(rows, row(auction, n))
			}
		}
	}
	return rows
}

// counts are the bids of each key in each window of ten seconds that holds one,
// by its start.
func (in *Input) counts(slide int64, key func(numbered) int64) map[int64]map[int64]int64 {
	const size = 10000
	windows := map[int64]map[int64]int64{}
	for _, b := range in.bids {
		for start := b.DateTime / slide * slide; start > b.DateTime-size; start -= slide {
			if windows[start] == nil {
				windows[start] = map[int64]int64{}
			}
			windows[start][key(b)]++
		}
	}
	return windows
}

func (in *Input) q5k() (rows []string) {
	const golden = 0x9e3779b97f4a7c15
	for start, counts := range in.counts(10, func(b numbered) int64 { return int64(uint64(b.Auction) * golden >> 20 % 10000) }) {
		for key, n := range counts {
			rows = append(rows, row(key, n, start+10000))
		}
	}
	return rows
}

func (in *Input) q7() (rows []string) {
	const size = 10000
	highest := map[int64]int64{}
	for _, b := range in.bids {
		w := b.DateTime / size
		highest[w] = max(highest[w], b.Price)
	}
	for _, b := range in.bids {
		w := b.DateTime / size
		if b.Price == highest[w] {
			rows = append(rows, row(b.Auction, b.Price, b.Bidder, b.DateTime, b.Extra))
		}
		if b.DateTime%size == 0 && b.Price == highest[w-1] {
			rows = append(rows, row(b.Auction, b.Price, b.Bidder, b.DateTime, b.Extra))
		}
	}
	return rows
}

func (in *Input) q8() (rows []string) {
	const size = 10000
	for _, p := range in.people {
		start := p.DateTime / size * size
		if slices.ContainsFunc(in.auctionsOf(p.ID), func(i int) bool { return in.auctions[i].DateTime/size*size == start }) {
			rows = append(rows, row(p.ID, p.Name, start))
		}
	}
	return rows
}

func (in *Input) q11() (rows []string) {
	const gap = 10000
	times := map[int64][]int64{}
	for _, b := range in.bids {
		times[b.Bidder] = append(times[b.Bidder], b.DateTime)
	}
	for bidder, all := range times {
		slices.Sort(all)
		first := 0
		for i := range all {
			if i+1 == len(all) || all[i+1]-all[i] > gap {
				rows = append(rows, row(bidder, i+1-first, all[first], all[i]+gap))
				first = i + 1
			}
		}
	}
	return rows
}

func (in *Input) q12() (rows []string) {
	counts := map[int64]int{}
	for _, b := range in.bids {
		counts[b.Bidder]++
	}
	for bidder, n := range counts {
		rows = append(rows, row(bidder, n))
	}
	return rows
}

// total is what q15 and q16 say of some bids.
type total struct {
	minute            string
	bids              [4]int
	bidders, auctions [4]map[int64]bool
}

func (t *total) add(b numbered) {
	t.minute = max(t.minute, at(b.DateTime).Format("15:04"))
	for _, i := range []int{0, rank(b.Price)} {
		t.bids[i]++
		if t.bidders[i] == nil {
			t.bidders[i], t.auctions[i] = map[int64]bool{}, map[int64]bool{}
		}
		t.bidders[i][b.Bidder], t.auctions[i][b.Auction] = true, true
	}
}

func (t *total) columns() (all []any) {
	for _, n := range t.bids {
		all = append(all, n)
	}
	for _, ids := range t.bidders {
		all = append(all, len(ids))
	}
	for _, ids := range t.auctions {
		all = append(all, len(ids))
	}
	return all
}

func rank(price int64) int {
	switch {
	case price < 10000:
		return 1
	case price < 1000000:
		return 2
	}
	return 3
}

func (in *Input) q15() (rows []string) {
	days := map[string]*total{}
	for _, b := range in.bids {
		d := day(b.DateTime)
		if days[d] == nil {
			days[d] = &total{}
		}
		days[d].add(b)
	}
	for d, t := range days {
		rows = append(rows, row(append([]any{d}, t.columns()...)...))
	}
	return rows
}

func (in *Input) q16() (rows []string) {
	days := map[[2]string]*total{}
	for _, b := range in.bids {
		d := [2]string{b.Channel, day(b.DateTime)}
		if days[d] == nil {
			days[d] = &total{}
		}
		days[d].add(b)
	}
	for d, t := range days {
		rows = append(rows, row(append([]any{d[0], d[1], t.minute}, t.columns()...)...))
	}
	return rows
}

func (in *Input) q17() (rows []string) {
	type key struct {
		auction int64
		day     time.Time
	}
	bids := map[key][]int64{}
	for _, b := range in.bids {
		k := key{b.Auction, at(b.DateTime).Truncate(24 * time.Hour)}
		bids[k] = append(bids[k], b.Price)
	}
	for k, prices := range bids {
		var ranks [4]int
		sum := int64(0)
		for _, p := range prices {
			sum += p
			ranks[rank(p)]++
		}
		rows = append(rows, row(k.auction, k.day.Format("2006-01-02"), len(prices), ranks[1], ranks[2], ranks[3],
			slices.Min(prices), slices.Max(prices), sum/int64(len(prices)), sum))
	}
	return rows
}
