package org.millrace.peers.flink.stream;

import java.time.Duration;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingProcessingTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** How often each bidder bids in ten seconds of the clock. */
final class Q12 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.sums(events.bids().map(b -> b.bidder).returns(Types.LONG)
                .keyBy(bidder -> bidder)
                .window(TumblingProcessingTimeWindows.of(Duration.ofSeconds(10)))
                .aggregate(new Counting<>(), new WithBidder(), Types.LONG, Types.TUPLE(Types.LONG, Types.LONG)));
    }

    private static final class WithBidder implements WindowFunction<Long, Tuple2<Long, Long>, Long, TimeWindow> {
        @Override
        public void apply(Long bidder, TimeWindow window, Iterable<Long> count, Collector<Tuple2<Long, Long>> out) {
            out.collect(Tuple2.of(bidder, count.iterator().next()));
        }
    }
}
