package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.millrace.peers.rows.RowText;

/** The last bid of each bidder on each auction. */
final class Q18 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.updates(events.bids()
                .keyBy(b -> Tuple2.of(b.bidder, b.auction), Types.TUPLE(Types.LONG, Types.LONG))
                .process(new Last()), b -> Tuple2.of(b.bidder, b.auction), Q18::bid);
    }

    static RowText bid(Bid b, RowText row) {
        return row.add(b.auction).add(b.bidder).add(b.price).add(b.channel).add(b.url).add(b.dateTime).add(b.extra);
    }

    /** Bids of the same time come in order. */
    private static final class Last extends KeyedProcessFunction<Tuple2<Long, Long>, Bid, Bid> {
        private transient ValueState<Bid> last;

        @Override
        public void open(OpenContext context) {
            last = getRuntimeContext().getState(new ValueStateDescriptor<>("last", Bid.class));
        }

        @Override
        public void processElement(Bid b, Context context, Collector<Bid> out) throws Exception {
            Bid before = last.value();
            if (before == null || b.dateTime >= before.dateTime) {
                last.update(b);
                out.collect(b);
            }
        }
    }
}
