package nexmark

import (
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/connector/files"
	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

// Queries that look at one bid at a time.

// bid is a bid with one text.
type bid struct {
	Auction, Bidder, Price, DateTime int64
	Text                             string
}

func bidColumns(dst []byte, b bid) []byte {
	return event.AppendTexts(event.AppendInts(dst, b.Auction, b.Bidder, b.Price, b.DateTime), b.Text)
}

// shortBids are the bids, without where they came from.
func (j *job) shortBids() sdk.DataStream[bid] {
	return j.events.FilterMap(func(e event.Event) (bid, bool) {
		return bid{e.Bid.Auction, e.Bid.Bidder, e.Bid.Price, e.Bid.DateTime, e.Bid.Extra}, e.Kind == event.IsBid
	})
}

// passThrough is q0: every bid.
func (j *job) passThrough() { rows(j, j.shortBids(), bidColumns) }

// inEuro is a price in thousandths of a cent of another currency, exactly.
func inEuro(price int64) int64 { return price * 908 }

// appendMilli appends a number of thousandths, with a bar before it.
func appendMilli(dst []byte, v int64) []byte {
	dst = strconv.AppendInt(append(dst, '|'), v/1000, 10)
	part := v % 1000
	return append(dst, '.', byte('0'+part/100), byte('0'+part/10%10), byte('0'+part%10))
}

// currency is q1: every bid, its price in thousandths of another currency.
func (j *job) currency() {
	rows(j, j.events.FilterMap(func(e event.Event) (bid, bool) {
		return bid{e.Bid.Auction, e.Bid.Bidder, inEuro(e.Bid.Price), e.Bid.DateTime, e.Bid.Extra}, e.Kind == event.IsBid
	}), func(dst []byte, b bid) []byte {
		dst = appendMilli(event.AppendInts(dst, b.Auction, b.Bidder), b.Price)
		return event.AppendTexts(event.AppendInts(dst, b.DateTime), b.Text)
	})
}

// idPrice is a price of something or somebody.
type idPrice struct{ ID, Price int64 }

func idPriceColumns(dst []byte, p idPrice) []byte { return event.AppendInts(dst, p.ID, p.Price) }

// selection is q2: bids on some auctions.
func (j *job) selection() {
	rows(j, j.events.FilterMap(func(e event.Event) (idPrice, bool) {
		return idPrice{e.Bid.Auction, e.Bid.Price}, e.Kind == event.IsBid && e.Bid.Auction%123 == 0
	}), idPriceColumns)
}

// minuteBid is a bid with the day and the minute that it was made in.
type minuteBid struct {
	Bid         bid
	Day, Minute string
}

func (b minuteBid) folder() string { return "dt=" + b.Day + "/hm=" + b.Minute }

// toFiles is q10: every bid, into files by the minute where there is a folder
// for them.
func (j *job) toFiles() {
	bids := j.events.Process(func(*sdk.Op) sdk.Fn[event.Event, minuteBid] {
		var at minute
		return func(c *sdk.Context[minuteBid], e event.Event) error {
			if e.Kind == event.IsBid {
				at.set(e.Bid.DateTime)
				c.Emit(minuteBid{bid{e.Bid.Auction, e.Bid.Bidder, e.Bid.Price, e.Bid.DateTime, e.Bid.Extra}, at.day, at.minute})
			}
			return nil
		}
	})
	if j.hash || j.folder == "" {
		rows(j, bids, func(dst []byte, b minuteBid) []byte {
			return event.AppendTexts(bidColumns(dst, b.Bid), b.Day, b.Minute)
		})
		return
	}
	bids.To(files.Sink(j.folder, files.Func("txt", func(dst []byte, b minuteBid) ([]byte, error) {
		return append(bidColumns(dst, b.Bid), '\n'), nil
	})).PartitionBy(minuteBid.folder)).Named("to-files")
}

// minute writes times as texts, of which it keeps the last: most bids are made
// in the minute of the one before.
type minute struct {
	at          int64
	day, minute string
}

func (m *minute) set(ms int64) {
	at := ms / time.Minute.Milliseconds()
	if at == m.at {
		return
	}
	t := time.UnixMilli(ms).UTC()
	m.at, m.day, m.minute = at, t.Format(time.DateOnly), t.Format("15:04")
}

type calculated struct {
	// Bid has its price in thousandths.
	Bid      bid
	TimeType string
	Letters  int64
}

// timeTypes are day and night by the hour.
var timeTypes = func() (types [24]string) {
	for hour := range types {
		switch {
		case hour >= 8 && hour <= 18:
			types[hour] = "dayTime"
		case hour <= 6 || hour >= 20:
			types[hour] = "nightTime"
		default:
			types[hour] = "otherTime"
		}
	}
	return types
}()

// calculation is q14: bids of a range of prices, with what can be said of them.
func (j *job) calculation() {
	rows(j, j.events.FilterMap(func(e event.Event) (calculated, bool) {
		price := inEuro(e.Bid.Price)
		if e.Kind != event.IsBid || price <= 1_000_000_000 || price >= 50_000_000_000 {
			return calculated{}, false
		}
		hour := e.Bid.DateTime / time.Hour.Milliseconds() % 24
		return calculated{
			bid{e.Bid.Auction, e.Bid.Bidder, price, e.Bid.DateTime, e.Bid.Extra},
			timeTypes[hour], int64(strings.Count(e.Bid.Extra, "c")),
		}, true
	}), func(dst []byte, r calculated) []byte {
		dst = appendMilli(event.AppendInts(dst, r.Bid.Auction, r.Bid.Bidder), r.Bid.Price)
		dst = event.AppendInts(event.AppendTexts(dst, r.TimeType), r.Bid.DateTime)
		return event.AppendInts(event.AppendTexts(dst, r.Bid.Text), r.Letters)
	})
}

type channelBid struct {
	Auction, Bidder, Price int64
	Channel, ID            string
}

// channelID is the id of a bid's channel, from a page that may have none.
func channelID(channel, url string) (string, bool) {
	switch channel {
	case "Apple":
		return "0", true
	case "Google":
		return "1", true
	case "Facebook":
		return "2", true
	case "Baidu":
		return "3", true
	}
	_, id, ok := strings.Cut(url, "channel_id=")
	if !ok {
		return "", false
	}
	id, _, _ = strings.Cut(id, "&")
	return id, true
}

// channelIDs is q21: bids with the ids of their channels.
func (j *job) channelIDs() {
	rows(j, j.events.FilterMap(func(e event.Event) (channelBid, bool) {
		if e.Kind != event.IsBid {
			return channelBid{}, false
		}
		id, ok := channelID(e.Bid.Channel, e.Bid.URL)
		return channelBid{e.Bid.Auction, e.Bid.Bidder, e.Bid.Price, e.Bid.Channel, id}, ok
	}), func(dst []byte, b channelBid) []byte {
		return event.AppendTexts(event.AppendInts(dst, b.Auction, b.Bidder, b.Price), b.Channel, b.ID)
	})
}

type urlBid struct {
	Auction, Bidder, Price int64
	Channel                string
	Dirs                   [3]string
}

// directories is q22: bids with the first three folders of their pages.
func (j *job) directories() {
	rows(j, j.events.FilterMap(func(e event.Event) (urlBid, bool) {
		if e.Kind != event.IsBid {
			return urlBid{}, false
		}
		r := urlBid{Auction: e.Bid.Auction, Bidder: e.Bid.Bidder, Price: e.Bid.Price, Channel: e.Bid.Channel}
		_, rest, _ := strings.Cut(e.Bid.URL, "://")
		_, rest, _ = strings.Cut(rest, "/")
		for i := range r.Dirs {
			r.Dirs[i], rest, _ = strings.Cut(rest, "/")
		}
		return r, true
	}), func(dst []byte, b urlBid) []byte {
		dst = event.AppendTexts(event.AppendInts(dst, b.Auction, b.Bidder, b.Price), b.Channel)
		return event.AppendTexts(dst, b.Dirs[:]...)
	})
}
