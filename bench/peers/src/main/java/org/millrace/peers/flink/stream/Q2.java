package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;

/** Bids on some auctions. */
final class Q2 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids()
                .filter(b -> b.auction % 123 == 0)
                .map(b -> Tuple2.of(b.auction, b.price))
                .returns(Types.TUPLE(Types.LONG, Types.LONG)));
    }
}
