package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;

/** Each channel's and day's bids, bidders and auctions. */
final class Q16 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.updates(events.bids()
                        .keyBy(b -> Tuple2.of(b.channel, Q10.day(b)), Types.TUPLE(Types.STRING, Types.STRING))
                        .process(new DistinctRanks<Tuple2<String, String>>(true)), r -> Tuple2.of(r.channel, r.day),
                (r, row) -> r.auctions.write(
                        r.bidders.write(r.bids.write(row.add(r.channel).add(r.day).add(r.minute)))));
    }
}
