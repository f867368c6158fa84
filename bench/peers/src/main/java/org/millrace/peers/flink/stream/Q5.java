package org.millrace.peers.flink.stream;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.windowing.ProcessAllWindowFunction;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** The auctions with the most bids in each sliding window. */
final class Q5 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        // A count leaves its window with the window's last millisecond as its time, so that a tumbling window of the slide
        // holds the counts of one sliding window.
        out.rows(events.bids().map(b -> b.auction).returns(Types.LONG)
                .keyBy(auction -> auction)
                .window(SlidingEventTimeWindows.of(Duration.ofSeconds(10), events.slide()))
                .aggregate(new Counting<>(), new WithAuction(), Types.LONG, Types.TUPLE(Types.LONG, Types.LONG))
                .windowAll(TumblingEventTimeWindows.of(events.slide()))
                .aggregate(new Most(), new Each(), Types.LIST(Types.TUPLE(Types.LONG, Types.LONG)),
                        Types.LIST(Types.TUPLE(Types.LONG, Types.LONG)), Types.TUPLE(Types.LONG, Types.LONG)));
    }

    private static final class WithAuction implements WindowFunction<Long, Tuple2<Long, Long>, Long, TimeWindow> {
        @Override
        public void apply(Long auction, TimeWindow window, Iterable<Long> count, Collector<Tuple2<Long, Long>> out) {
            out.collect(Tuple2.of(auction, count.iterator().next()));
        }
    }

    /** Those of the greatest count. */
    private static final class Most
            implements AggregateFunction<Tuple2<Long, Long>, List<Tuple2<Long, Long>>, List<Tuple2<Long, Long>>> {
        @Override
        public List<Tuple2<Long, Long>> createAccumulator() {
            return new ArrayList<>();
        }

        @Override
        public List<Tuple2<Long, Long>> add(Tuple2<Long, Long> next, List<Tuple2<Long, Long>> most) {
            if (!most.isEmpty() && next.f1 > most.get(0).f1) {
                most.clear();
            }
            if (most.isEmpty() || next.f1.equals(most.get(0).f1)) {
                most.add(next);
            }
            return most;
        }

        @Override
        public List<Tuple2<Long, Long>> getResult(List<Tuple2<Long, Long>> most) {
            return most;
        }

        @Override
        public List<Tuple2<Long, Long>> merge(List<Tuple2<Long, Long>> a, List<Tuple2<Long, Long>> b) {
            b.forEach(next -> add(next, a));
            return a;
        }
    }

    private static final class Each
            extends ProcessAllWindowFunction<List<Tuple2<Long, Long>>, Tuple2<Long, Long>, TimeWindow> {
        @Override
        public void process(Context context, Iterable<List<Tuple2<Long, Long>>> most, Collector<Tuple2<Long, Long>> out) {
            most.iterator().next().forEach(out::collect);
        }
    }
}
