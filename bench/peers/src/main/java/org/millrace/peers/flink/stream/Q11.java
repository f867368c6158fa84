package org.millrace.peers.flink.stream;

import java.time.Duration;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** How often each bidder bids in a session. */
final class Q11 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids().map(b -> b.bidder).returns(Types.LONG)
                .keyBy(bidder -> bidder)
                .window(EventTimeSessionWindows.withGap(Duration.ofSeconds(10)))
                .aggregate(new Counting<>(), new WithSession(), Types.LONG,
                        Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.LONG)));
    }

    private static final class WithSession
            implements WindowFunction<Long, Tuple4<Long, Long, Long, Long>, Long, TimeWindow> {
        @Override
        public void apply(Long bidder, TimeWindow session, Iterable<Long> count,
                Collector<Tuple4<Long, Long, Long, Long>> out) {
            out.collect(Tuple4.of(bidder, count.iterator().next(), session.getStart(), session.getEnd()));
        }
    }
}
