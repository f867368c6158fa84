package org.millrace.peers.flink.stream;

import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFlatMapFunction;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple5;
import org.apache.flink.util.Collector;

/** Bids with what a side table has for their auction. */
final class Q13 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids()
                .flatMap(new Lookup())
                .returns(Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.LONG, Types.STRING)));
    }

    private static final class Lookup extends RichFlatMapFunction<Bid, Tuple5<Long, Long, Long, Long, String>> {
        private transient Map<Long, String> side;

        @Override
        public void open(OpenContext context) {
            side = new HashMap<>();
            for (long key = 0; key < 10_000; key++) {
                side.put(key, Long.toString(key));
            }
        }

        @Override
        public void flatMap(Bid b, Collector<Tuple5<Long, Long, Long, Long, String>> out) {
            String value = side.get(b.auction % 10_000);
            if (value != null) {
                out.collect(Tuple5.of(b.auction, b.bidder, b.price, b.dateTime, value));
            }
        }
    }
}
