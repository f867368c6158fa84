package org.millrace.peers.flink.stream;

import java.math.BigDecimal;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple5;

/** Bids with their price in another currency. */
final class Q1 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids()
                .map(b -> Tuple5.of(b.auction, b.bidder, converted(b.price), b.dateTime, b.extra))
                .returns(Types.TUPLE(Types.LONG, Types.LONG, Types.BIG_DEC, Types.LONG, Types.STRING)));
    }

    /** 0.908 of a price, exactly. */
    static BigDecimal converted(long price) {
        return BigDecimal.valueOf(price * 908, 3);
    }
}
