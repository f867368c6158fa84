package org.millrace.peers.flink.stream;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.functions.co.KeyedCoProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Each auction with its highest bid (the earliest of equal ones), when it expires. A bid may come before its auction; one
 * that has none by the time it was made has none at all, or one that has expired.
 */
final class WinningBids extends KeyedCoProcessFunction<Long, Auction, Bid, Tuple2<Auction, Bid>> {
    private transient ValueState<Auction> auction;
    private transient ValueState<Bid> best;
    private transient ListState<Bid> early;

    static DataStream<Tuple2<Auction, Bid>> of(DataStream<Auction> auctions, DataStream<Bid> bids) {
        return auctions.keyBy(a -> a.id)
                .connect(bids.keyBy(b -> b.auction))
                .process(new WinningBids())
                .returns(Types.TUPLE(TypeInformation.of(Auction.class), TypeInformation.of(Bid.class)));
    }

    @Override
    public void open(OpenContext context) {
        auction = getRuntimeContext().getState(new ValueStateDescriptor<>("auction", Auction.class));
        best = getRuntimeContext().getState(new ValueStateDescriptor<>("best", Bid.class));
        early = getRuntimeContext().getListState(new ListStateDescriptor<>("early", Bid.class));
    }

    @Override
    public void processElement1(Auction a, Context context, Collector<Tuple2<Auction, Bid>> out) throws Exception {
        auction.update(a);
        context.timerService().registerEventTimeTimer(a.expires);
        for (Bid b : early.get()) {
            offer(a, b);
        }
        early.clear();
    }

    @Override
    public void processElement2(Bid b, Context context, Collector<Tuple2<Auction, Bid>> out) throws Exception {
        Auction a = auction.value();
        if (a != null) {
            offer(a, b);
        } else {
            early.add(b);
            context.timerService().registerEventTimeTimer(b.dateTime);
        }
    }

    private void offer(Auction a, Bid b) throws Exception {
        if (b.dateTime < a.dateTime || b.dateTime > a.expires) {
            return;
        }
        Bid leader = best.value();
        if (leader == null || b.price > leader.price || b.price == leader.price && b.dateTime < leader.dateTime) {
            best.update(b);
        }
    }

    @Override
    public void onTimer(long time, OnTimerContext context, Collector<Tuple2<Auction, Bid>> out) throws Exception {
        Auction a = auction.value();
        if (a == null) {
            List<Bid> later = new ArrayList<>();
            for (Bid b : early.get()) {
                if (b.dateTime > time) {
                    later.add(b);
                }
            }
            early.update(later);
        } else if (time >= a.expires) {
            Bid winner = best.value();
            if (winner != null) {
                out.collect(Tuple2.of(a, winner));
            }
            auction.clear();
            best.clear();
        }
    }
}
