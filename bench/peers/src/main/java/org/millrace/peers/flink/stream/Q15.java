package org.millrace.peers.flink.stream;

/** Each day's bids, bidders and auctions. */
final class Q15 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.updates(events.bids().keyBy(Q10::day).process(new DistinctRanks<String>(false)), r -> r.day,
                (r, row) -> r.auctions.write(r.bidders.write(r.bids.write(row.add(r.day)))));
    }
}
