package nexmark

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk/sdktest"
)

// A bid may be read before its auction, and event time may pass others that wait
// with it meanwhile.
func TestBidsWaitForTheirAuction(t *testing.T) {
	ms := func(at int64) time.Time { return time.UnixMilli(at) }
	bid := func(number, at, price int64) offer {
		return offer{Auction: 7, Bid: purchase{Bidder: number, Price: price, DateTime: at, Number: number}}
	}
	lot := event.Auction{ID: 7, DateTime: 200, Expires: 1000}
	h := sdktest.Operator(t, winning)
	push := func(bids ...offer) {
		for _, b := range bids {
			h.Push(ms(b.Bid.DateTime), b)
		}
	}
	push(bid(1, 100, 900), bid(4, 300, 500)) // the one is before the auction opens
	h.Watermark(ms(199))
	push(bid(2, 200, 400))
	h.Push(ms(200), offer{Auction: 7, Lot: &lot})
	push(bid(6, 301, 500), bid(5, 300, 500), bid(3, 299, 499), bid(8, 1000, 500), bid(9, 1001, 900))
	h.Watermark(ms(999))
	if early := h.Output(); len(early) > 0 {
		t.Errorf("sold before its end: %+v", early)
	}
	h.Watermark(ms(1000))
	want := []sale{{Lot: lot, Won: bid(4, 300, 500).Bid}}
	if diff := cmp.Diff(want, h.Output()); diff != "" {
		t.Errorf("sold (-want +got):\n%s", diff)
	}
	h.End()
	if more := h.Output(); len(more) > 0 {
		t.Errorf("sold again: %+v", more)
	}
}
