package nexmark

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk/sdktest"
)

// A bid in the millisecond in which a window ends belongs to it if it reaches the
// highest price there, and does not raise it. No published result has one.
func TestHighestBidsAtTheEdges(t *testing.T) {
	h := sdktest.Operator(t, highestOf)
	for _, b := range []bid{
		{Auction: 1, Price: 500, DateTime: 0}, // the highest of the first window, at its start
		{Auction: 2, Price: 500, DateTime: 9999},
		{Auction: 3, Price: 400, DateTime: 5000},
		{Auction: 4, Price: 500, DateTime: 10000}, // reaches it at its end, and is the highest of the second
		{Auction: 5, Price: 450, DateTime: 10001},
		{Auction: 6, Price: 900, DateTime: 20000}, // at the end of the second, higher: of the third alone
		{Auction: 7, Price: 100, DateTime: 40000}, // at the end of a window without others
	} {
		h.Push(time.UnixMilli(b.DateTime), b)
	}
	h.End()
	var auctions []int64
	for _, b := range h.Output() {
		auctions = append(auctions, b.Auction)
	}
	slices.Sort(auctions)
	if diff := cmp.Diff([]int64{1, 2, 4, 4, 6, 7}, auctions); diff != "" {
		t.Errorf("auctions with the highest bids (-want +got):\n%s", diff)
	}
}
