package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.co.KeyedCoProcessFunction;
import org.apache.flink.util.Collector;
import org.millrace.peers.rows.RowText;

/** Bids with their auctions, those of category 10. */
final class Q20 implements StreamQueries.Query {
    private static final long CATEGORY = 10;

    @Override
    public void build(Events events, Output out) {
        // The other auctions come along without their text, so that no bid waits for one in vain.
        out.rows(events.bids().keyBy(b -> b.auction)
                        .connect(events.auctions().map(a -> a.category == CATEGORY ? a : Auction.numbers(a))
                                .returns(Auction.class).keyBy(a -> a.id))
                        .process(new Join())
                        .returns(Types.TUPLE(TypeInformation.of(Bid.class), TypeInformation.of(Auction.class))),
                (joined, row) -> auction(joined.f1, Q18.bid(joined.f0, row)).add(joined.f1.extra));
    }

    /** An auction's columns from itemName to category. */
    static RowText auction(Auction a, RowText row) {
        return row.add(a.itemName).add(a.description).add(a.initialBid).add(a.reserve).add(a.dateTime).add(a.expires)
                .add(a.seller).add(a.category);
    }

    private static final class Join extends KeyedCoProcessFunction<Long, Bid, Auction, Tuple2<Bid, Auction>> {
        private transient ValueState<Auction> auction;
        private transient ListState<Bid> waiting;

        @Override
        public void open(OpenContext context) {
            auction = getRuntimeContext().getState(new ValueStateDescriptor<>("auction", Auction.class));
            waiting = getRuntimeContext().getListState(new ListStateDescriptor<>("waiting", Bid.class));
        }

        @Override
        public void processElement1(Bid b, Context context, Collector<Tuple2<Bid, Auction>> out) throws Exception {
            Auction a = auction.value();
            if (a == null) {
                waiting.add(b);
            } else if (a.category == CATEGORY) {
                out.collect(Tuple2.of(b, a));
            }
        }

        @Override
        public void processElement2(Auction a, Context context, Collector<Tuple2<Bid, Auction>> out) throws Exception {
            auction.update(a);
            if (a.category == CATEGORY) {
                for (Bid b : waiting.get()) {
                    out.collect(Tuple2.of(b, a));
                }
            }
            waiting.clear();
        }
    }
}
