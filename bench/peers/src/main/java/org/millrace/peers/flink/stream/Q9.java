package org.millrace.peers.flink.stream;

/** Each auction with its winning bid. */
final class Q9 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(WinningBids.of(events.auctions(), events.bids()), (won, row) -> {
            Q20.auction(won.f0, row.add(won.f0.id)).add(won.f0.extra);
            row.add(won.f1.auction).add(won.f1.bidder).add(won.f1.price).add(won.f1.dateTime).add(won.f1.extra);
        });
    }
}
