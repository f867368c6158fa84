package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** Each auction's and day's bids and prices. */
final class Q17 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.updates(events.bids().map(Bid::numbers)
                        .keyBy(b -> Tuple2.of(b.auction, Q10.day(b)), Types.TUPLE(Types.LONG, Types.STRING))
                        .process(new Prices()), s -> Tuple2.of(s.auction, s.day),
                (s, row) -> s.bids.write(row.add(s.auction).add(s.day)).add(s.min).add(s.max).add(s.sum / s.bids.total)
                        .add(s.sum));
    }

    /** A POJO. */
    public static class Summary {
        public long auction;
        public String day;
        public Ranks bids = new Ranks();
        public long min = Long.MAX_VALUE;
        public long max = Long.MIN_VALUE;
        public long sum;
    }

    private static final class Prices extends KeyedProcessFunction<Tuple2<Long, String>, Bid, Summary> {
        private transient ValueState<Summary> summary;

        @Override
        public void open(OpenContext context) {
            summary = getRuntimeContext().getState(new ValueStateDescriptor<>("summary", Summary.class));
        }

        @Override
        public void processElement(Bid b, Context context, Collector<Summary> out) throws Exception {
            Summary so = summary.value();
            Summary next = new Summary();
            next.auction = b.auction;
            if (so == null) {
                next.day = Q10.day(b);
            } else {
                next.day = so.day;
                next.bids = so.bids.copy();
                next.min = so.min;
                next.max = so.max;
                next.sum = so.sum;
            }
            next.bids.add(b.price);
            next.min = Math.min(next.min, b.price);
            next.max = Math.max(next.max, b.price);
            next.sum += b.price;
            summary.update(next);
            out.collect(next);
        }
    }
}
