package oracle

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/examples/nexmark/generator"
)

// Input is all events of a run.
type Input struct {
	people   []event.Person
	auctions []event.Auction
	bids     []numbered
	// bySeller are the places of auctions, made when first asked for.
	bySeller map[int64][]int
}

// numbered is a bid and the number of its event.
type numbered struct {
	event.Bid
	Number int64
}

// New makes the first events of a seed.
func New(seed uint64, rate, events int) *Input {
	in := &Input{}
	g := generator.New(seed, rate, generator.NewChannels(seed))
	for n := range uint64(events) {
		var ev event.Event
		switch g.Make(&ev, n, g.Time(n)); ev.Kind {
		case event.IsPerson:
			in.people = append(in.people, *ev.Person)
		case event.IsAuction:
			in.auctions = append(in.auctions, *ev.Auction)
		default:
			in.bids = append(in.bids, numbered{ev.Bid, ev.Number})
		}
	}
	return in
}

// queries are all queries by name; q5 takes the slide of its windows, too.
var queries = map[string]func(*Input) []string{
	"q0": (*Input).q0, "q1": (*Input).q1, "q2": (*Input).q2, "q3": (*Input).q3, "q4": (*Input).q4, "q5k": (*Input).q5k,
	"q6": (*Input).q6, "q7": (*Input).q7, "q8": (*Input).q8, "q9": (*Input).q9, "q10": (*Input).q10, "q11": (*Input).q11,
	"q12": (*Input).q12, "q13": (*Input).q13, "q14": (*Input).q14, "q15": (*Input).q15, "q16": (*Input).q16,
	"q17": (*Input).q17, "q18": (*Input).q18, "q19": (*Input).q19, "q20": (*Input).q20, "q21": (*Input).q21,
	"q22": (*Input).q22, "q23": (*Input).q23,
}

// Line is the sums over the rows of a query, in the published form. slide is
// for q5 alone.
func (in *Input) Line(query string, slide time.Duration) string {
	var rows []string
	if query == "q5" {
		rows = in.q5(slide.Milliseconds())
	} else {
		rows = queries[query](in)
	}
	var sum0, sum1 uint64
	two := xxhash.New()
	for _, row := range rows {
		sum0 += xxhash.Sum64String(row)
		two.ResetWithSeed(1)
		two.WriteString(row)
		sum1 += two.Sum64()
	}
	return fmt.Sprintf("%s %d %016x %016x", query, len(rows), sum0, sum1)
}

// row joins the columns of a row.
func row(columns ...any) string {
	var b []byte
	for i, c := range columns {
		if i > 0 {
			b = append(b, '|')
		}
		switch c := c.(type) {
		case string:
			b = append(b, c...)
		case int64:
			b = strconv.AppendInt(b, c, 10)
		default:
			b = fmt.Append(b, c)
		}
	}
	return string(b)
}

// euro is a price with three decimals.
func euro(price int64) string { return fmt.Sprintf("%d.%03d", price*908/1000, price*908%1000) }

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func day(ms int64) string { return at(ms).Format("2006-01-02") }

// each makes a row of each bid that f has one for.
func (in *Input) each(f func(b numbered) string) (rows []string) {
	for _, b := range in.bids {
		if r := f(b); r != "" {
			rows = append(rows, r)
		}
	}
	return rows
}

func (in *Input) q0() []string {
	return in.each(func(b numbered) string { return row(b.Auction, b.Bidder, b.Price, b.DateTime, b.Extra) })
}

func (in *Input) q1() []string {
	return in.each(func(b numbered) string { return row(b.Auction, b.Bidder, euro(b.Price), b.DateTime, b.Extra) })
}

func (in *Input) q2() []string {
	return in.each(func(b numbered) string {
		if b.Auction%123 != 0 {
			return ""
		}
		return row(b.Auction, b.Price)
	})
}

func (in *Input) q10() []string {
	return in.each(func(b numbered) string {
		return row(b.Auction, b.Bidder, b.Price, b.DateTime, b.Extra, day(b.DateTime), at(b.DateTime).Format("15:04"))
	})
}

func (in *Input) q13() []string {
	return in.each(func(b numbered) string { return row(b.Auction, b.Bidder, b.Price, b.DateTime, b.Auction%10000) })
}

func (in *Input) q14() []string {
	return in.each(func(b numbered) string {
		if b.Price < 1101322 || b.Price > 55066079 {
			return ""
		}
		kind := "otherTime"
		switch h := at(b.DateTime).Hour(); {
		case h >= 8 && h <= 18:
			kind = "dayTime"
		case h <= 6, h >= 20:
			kind = "nightTime"
		}
		n := 0
		for _, c := range b.Extra {
			if c == 'c' {
				n++
			}
		}
		return row(b.Auction, b.Bidder, euro(b.Price), kind, b.DateTime, b.Extra, n)
	})
}

func (in *Input) q21() []string {
	return in.each(func(b numbered) string {
		id, hot := map[string]string{"Apple": "0", "Google": "1", "Facebook": "2", "Baidu": "3"}[b.Channel]
		if !hot {
			i := strings.Index(b.URL, "channel_id=")
			if i < 0 {
				return ""
			}
			id = strings.Split(b.URL[i+len("channel_id="):], "&")[0]
		}
		return row(b.Auction, b.Bidder, b.Price, b.Channel, id)
	})
}

func (in *Input) q22() []string {
	return in.each(func(b numbered) string {
		parts := strings.Split(b.URL, "/")
		return row(b.Auction, b.Bidder, b.Price, b.Channel, parts[3], parts[4], parts[5])
	})
}
