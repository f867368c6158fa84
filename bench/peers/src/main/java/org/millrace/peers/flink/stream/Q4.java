package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The average closing price of each category. */
final class Q4 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.updates(WinningBids.of(events.auctions().map(Auction::numbers), events.bids().map(Bid::numbers))
                .map(won -> Tuple2.of(won.f0.category, won.f1.price)).returns(Types.TUPLE(Types.LONG, Types.LONG))
                .keyBy(sale -> sale.f0)
                .process(new Average()).returns(Types.TUPLE(Types.LONG, Types.LONG)),
                average -> average.f0);
    }

    private static final class Average extends KeyedProcessFunction<Long, Tuple2<Long, Long>, Tuple2<Long, Long>> {
        private transient ValueState<Tuple2<Long, Long>> sum;

        @Override
        public void open(OpenContext context) {
            sum = getRuntimeContext().getState(
                    new ValueStateDescriptor<>("sum and count", Types.TUPLE(Types.LONG, Types.LONG)));
        }

        @Override
        public void processElement(Tuple2<Long, Long> sale, Context context, Collector<Tuple2<Long, Long>> out)
                throws Exception {
            Tuple2<Long, Long> so = sum.value();
            so = so == null ? Tuple2.of(sale.f1, 1L) : Tuple2.of(so.f0 + sale.f1, so.f1 + 1);
            sum.update(so);
            out.collect(Tuple2.of(sale.f0, so.f0 / so.f1));
        }
    }
}
