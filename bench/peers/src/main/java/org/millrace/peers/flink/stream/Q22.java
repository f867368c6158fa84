package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple7;

/** Bids with the folders of their URL. */
final class Q22 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids()
                .map(b -> {
                    String[] parts = b.url.split("/");
                    return Tuple7.of(b.auction, b.bidder, b.price, b.channel, parts[3], parts[4], parts[5]);
                })
                .returns(Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.STRING, Types.STRING, Types.STRING,
                        Types.STRING)));
    }
}
