package org.millrace.peers.flink.stream;

import java.time.Duration;
import org.apache.flink.api.common.functions.CoGroupFunction;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.util.Collector;

/** Who registered and opened an auction in the same ten seconds. */
final class Q8 implements StreamQueries.Query {
    private static final Duration SIZE = Duration.ofSeconds(10);

    @Override
    public void build(Events events, Output out) {
        out.rows(events.persons()
                .map(p -> Tuple3.of(p.id, p.name, p.dateTime)).returns(Types.TUPLE(Types.LONG, Types.STRING, Types.LONG))
                .coGroup(events.auctions()
                        .map(a -> Tuple2.of(a.seller, a.dateTime)).returns(Types.TUPLE(Types.LONG, Types.LONG)))
                .where(p -> p.f0, Types.LONG)
                .equalTo(a -> a.f0, Types.LONG)
                .window(TumblingEventTimeWindows.of(SIZE))
                .apply(new Both(), Types.TUPLE(Types.LONG, Types.STRING, Types.LONG)));
    }

    private static final class Both
            implements CoGroupFunction<Tuple3<Long, String, Long>, Tuple2<Long, Long>, Tuple3<Long, String, Long>> {
        @Override
        public void coGroup(Iterable<Tuple3<Long, String, Long>> persons, Iterable<Tuple2<Long, Long>> auctions,
                Collector<Tuple3<Long, String, Long>> out) {
            if (auctions.iterator().hasNext()) {
                for (Tuple3<Long, String, Long> p : persons) {
                    out.collect(Tuple3.of(p.f0, p.f1, p.f2 - Math.floorMod(p.f2, SIZE.toMillis())));
                }
            }
        }
    }
}
