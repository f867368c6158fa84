package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The bids of a key, their bidders and their auctions, in all and by rank; each bid brings a new result. */
final class DistinctRanks<K> extends KeyedProcessFunction<K, Bid, DistinctRanks.Result> {
    private final boolean byChannel;
    private transient ValueState<Result> result;
    private transient MapState<Long, Integer> bidders, auctions;

    /** A POJO. */
    public static class Result {
        public String channel;
        public String day;
        public String minute;
        public Ranks bids = new Ranks();
        public Ranks bidders = new Ranks();
        public Ranks auctions = new Ranks();
    }

    DistinctRanks(boolean byChannel) {
        this.byChannel = byChannel;
    }

    @Override
    public void open(OpenContext context) {
        result = getRuntimeContext().getState(new ValueStateDescriptor<>("result", Result.class));
        // The ranks in which a bidder or an auction was seen, a bit each.
        bidders = getRuntimeContext().getMapState(new MapStateDescriptor<>("bidders", Types.LONG, Types.INT));
        auctions = getRuntimeContext().getMapState(new MapStateDescriptor<>("auctions", Types.LONG, Types.INT));
    }

    @Override
    public void processElement(Bid b, Context context, Collector<Result> out) throws Exception {
        Result so = result.value();
        Result next = new Result();
        next.day = Q10.day(b);
        if (byChannel) {
            next.channel = b.channel;
            next.minute = Q10.minute(b);
        }
        if (so != null) {
            if (byChannel && so.minute.compareTo(next.minute) > 0) {
                next.minute = so.minute;
            }
            next.bids = so.bids.copy();
            next.bidders = so.bidders.copy();
            next.auctions = so.auctions.copy();
        }
        next.bids.add(b.price);
        see(bidders, b.bidder, b.price, next.bidders);
        see(auctions, b.auction, b.price, next.auctions);
        result.update(next);
        out.collect(next);
    }

    private static void see(MapState<Long, Integer> seen, long id, long price, Ranks ranks) throws Exception {
        Integer known = seen.get(id);
        int before = known == null ? 0 : known;
        int after = before | 1 << Ranks.rank(price);
        if (after != before) {
            seen.put(id, after);
            ranks.addDistinct(before, after);
        }
    }
}
