package org.millrace.peers.flink.stream;

/** Every bid. */
final class Q0 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids(), (b, row) -> row.add(b.auction).add(b.bidder).add(b.price).add(b.dateTime).add(b.extra));
    }
}
