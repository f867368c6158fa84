package org.millrace.peers.flink.stream;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The average of each seller's last ten closing prices. */
final class Q6 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(WinningBids.of(events.auctions().map(Auction::numbers), events.bids().map(Bid::numbers))
                .map(won -> Tuple4.of(won.f0.seller, won.f0.expires, won.f0.id, won.f1.price))
                .returns(Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.LONG))
                .keyBy(sale -> sale.f0)
                .process(new LastTen())
                .returns(Types.TUPLE(Types.LONG, Types.LONG)));
    }

    /** Takes each seller's sales in the order of their auctions' end, then of their ids. */
    private static final class LastTen
            extends KeyedProcessFunction<Long, Tuple4<Long, Long, Long, Long>, Tuple2<Long, Long>> {
        private transient MapState<Long, List<Tuple2<Long, Long>>> sales;
        private transient ValueState<List<Long>> prices;

        @Override
        public void open(OpenContext context) {
            sales = getRuntimeContext().getMapState(new MapStateDescriptor<>(
                    "sales by end", Types.LONG, Types.LIST(Types.TUPLE(Types.LONG, Types.LONG))));
            prices = getRuntimeContext().getState(new ValueStateDescriptor<>("prices", Types.LIST(Types.LONG)));
        }

        @Override
        public void processElement(Tuple4<Long, Long, Long, Long> sale, Context context,
                Collector<Tuple2<Long, Long>> out) throws Exception {
            List<Tuple2<Long, Long>> same = sales.get(sale.f1);
            if (same == null) {
                same = new ArrayList<>();
                context.timerService().registerEventTimeTimer(sale.f1);
            }
            same.add(Tuple2.of(sale.f2, sale.f3));
            sales.put(sale.f1, same);
        }

        @Override
        public void onTimer(long end, OnTimerContext context, Collector<Tuple2<Long, Long>> out) throws Exception {
            List<Tuple2<Long, Long>> ended = sales.get(end);
            sales.remove(end);
            ended.sort((a, b) -> Long.compare(a.f0, b.f0));
            List<Long> last = prices.value();
            if (last == null) {
                last = new ArrayList<>();
            }
            for (Tuple2<Long, Long> sale : ended) {
                if (last.size() == 10) {
                    last.remove(0);
                }
                last.add(sale.f1);
                long sum = 0;
                for (long price : last) {
                    sum += price;
                }
                out.collect(Tuple2.of(context.getCurrentKey(), sum / last.size()));
            }
            prices.update(last);
        }
    }
}
