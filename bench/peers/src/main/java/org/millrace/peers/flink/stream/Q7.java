package org.millrace.peers.flink.stream;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.flink.api.common.ExecutionConfig;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.windowing.ProcessAllWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.triggers.EventTimeTrigger;
import org.apache.flink.streaming.api.windowing.triggers.Trigger;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/**
 * The bids of the highest price in each ten seconds. The result takes in a bid at a window's very end that has its price: such
 * a bid is sent twice, the second time marked as a guest of the window before.
 */
final class Q7 implements StreamQueries.Query {
    private static final long SIZE = Duration.ofSeconds(10).toMillis();
    private static final TypeInformation<Tuple2<Bid, Boolean>> BID_OR_GUEST =
            Types.TUPLE(TypeInformation.of(Bid.class), Types.BOOLEAN);

    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids()
                        .<Tuple2<Bid, Boolean>>flatMap((b, to) -> {
                            to.collect(Tuple2.of(b, false));
                            if (b.dateTime % SIZE == 0) {
                                to.collect(Tuple2.of(b, true));
                            }
                        })
                        .returns(BID_OR_GUEST)
                        .windowAll(new TenSeconds())
                        .aggregate(new Highest(), new Each(), TypeInformation.of(Highest.Bids.class),
                                TypeInformation.of(Highest.Bids.class), TypeInformation.of(Bid.class)),
                (b, row) -> row.add(b.auction).add(b.price).add(b.bidder).add(b.dateTime).add(b.extra));
    }

    private static final class TenSeconds extends WindowAssigner<Object, TimeWindow> {
        @Override
        public Collection<TimeWindow> assignWindows(Object element, long time, WindowAssignerContext context) {
            boolean guest = (Boolean) ((Tuple2<?, ?>) element).f1;
            long start = time - Math.floorMod(time, SIZE) - (guest ? SIZE : 0);
            return List.of(new TimeWindow(start, start + SIZE));
        }

        @Override
        public Trigger<Object, TimeWindow> getDefaultTrigger() {
            return EventTimeTrigger.create();
        }

        @Override
        public TypeSerializer<TimeWindow> getWindowSerializer(ExecutionConfig config) {
            return new TimeWindow.Serializer();
        }

        @Override
        public boolean isEventTime() {
            return true;
        }
    }

    /** The highest bids, and the guests. */
    static final class Highest implements AggregateFunction<Tuple2<Bid, Boolean>, Highest.Bids, Highest.Bids> {
        /** A POJO. */
        public static class Bids {
            public List<Bid> highest = new ArrayList<>();
            public List<Bid> guests = new ArrayList<>();
        }

        @Override
        public Bids createAccumulator() {
            return new Bids();
        }

        @Override
        public Bids add(Tuple2<Bid, Boolean> bid, Bids so) {
            if (bid.f1) {
                so.guests.add(bid.f0);
            } else {
                add(bid.f0, so.highest);
            }
            return so;
        }

        private static void add(Bid bid, List<Bid> highest) {
            if (!highest.isEmpty() && bid.price > highest.get(0).price) {
                highest.clear();
            }
            if (highest.isEmpty() || bid.price == highest.get(0).price) {
                highest.add(bid);
            }
        }

        @Override
        public Bids getResult(Bids so) {
            return so;
        }

        @Override
        public Bids merge(Bids a, Bids b) {
            b.highest.forEach(bid -> add(bid, a.highest));
            a.guests.addAll(b.guests);
            return a;
        }
    }

    private static final class Each extends ProcessAllWindowFunction<Highest.Bids, Bid, TimeWindow> {
        @Override
        public void process(Context context, Iterable<Highest.Bids> results, Collector<Bid> out) {
            Highest.Bids bids = results.iterator().next();
            bids.highest.forEach(out::collect);
            for (Bid guest : bids.guests) {
                if (!bids.highest.isEmpty() && guest.price == bids.highest.get(0).price) {
                    out.collect(guest);
                }
            }
        }
    }
}
