package org.millrace.peers.flink.stream;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The ten highest bids on each auction. */
final class Q19 implements StreamQueries.Query {
    private static final int MOST = 10;

    @Override
    public void build(Events events, Output out) {
        out.updates(events.bids().keyBy(b -> b.auction).process(new Top())
                        .returns(Types.TUPLE(TypeInformation.of(Bid.class), Types.INT)),
                ranked -> Tuple2.of(ranked.f0.auction, ranked.f1),
                (ranked, row) -> Q18.bid(ranked.f0, row).add(ranked.f1));
    }

    /** Bids of the same price and time come in order. */
    private static final class Top extends KeyedProcessFunction<Long, Bid, Tuple2<Bid, Integer>> {
        private transient ValueState<List<Bid>> top;

        @Override
        public void open(OpenContext context) {
            top = getRuntimeContext().getState(
                    new ValueStateDescriptor<>("top", Types.LIST(TypeInformation.of(Bid.class))));
        }

        @Override
        public void processElement(Bid b, Context context, Collector<Tuple2<Bid, Integer>> out) throws Exception {
            List<Bid> bids = top.value();
            if (bids == null) {
                bids = new ArrayList<>(MOST + 1);
            }
            int at = bids.size();
            while (at > 0 && before(b, bids.get(at - 1))) {
                at--;
            }
            if (at == MOST) {
                return;
            }
            bids.add(at, b);
            if (bids.size() > MOST) {
                bids.remove(MOST);
            }
            top.update(bids);
            for (; at < bids.size(); at++) {
                out.collect(Tuple2.of(bids.get(at), at + 1));
            }
        }

        private static boolean before(Bid a, Bid b) {
            return a.price > b.price || a.price == b.price && a.dateTime < b.dateTime;
        }
    }
}
