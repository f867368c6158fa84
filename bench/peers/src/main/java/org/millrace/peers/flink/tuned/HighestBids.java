package org.millrace.peers.flink.tuned;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.millrace.peers.flink.TallySink;
import org.millrace.peers.g1.Event;

/** Q7: each reader sends the highest bids of its part of a window, and those at the window's very end. */
final class HighestBids {
    private static final long SIZE = 10_000;

    private HighestBids() {}

    static void build(TunedQueries q) {
        TallySink.Format<Partial> format = () -> (p, row, tally) -> tally.add(
                row.clear().add(p.a).add(p.c).add(p.b).add(p.d).add(p.text));
        q.result(
                TunedQueries.inOnePlace(
                        q.bids(TunedQueries.fourSeconds()).transform("combine", Partial.TYPE, new Highest()), new All()),
                format);
    }

    /** Sends (window's start, auction, bidder, price, dateTime, extra). */
    private static final class Highest extends Combiner {
        private final List<Partial> highest = new ArrayList<>();
        private long end = Long.MIN_VALUE;
        private long price = -1;

        @Override
        void fold(Event bid) {
            if (bid.time >= end) { // a reader's events are in order
                flush();
                end = bid.time - Math.floorMod(bid.time, SIZE) + SIZE;
                price = -1;
            }
            if (bid.price >= price) {
                if (bid.price > price) {
                    highest.clear();
                    price = bid.price;
                }
                highest.add(of(bid, end - SIZE));
            }
            if (bid.time == end - SIZE) {
                send(of(bid, end - 2 * SIZE)); // for the window that ends with it
            }
        }

        private static Partial of(Event bid, long window) {
            Partial p = Partial.of(window, bid.auction, bid.bidder, bid.price);
            p.d = bid.time;
            p.text = bid.extra();
            return p;
        }

        /** What was sent and is not the highest any more is sorted out by the receiver. */
        @Override
        void flush() {
            highest.forEach(this::send);
            highest.clear();
        }
    }

    private static final class All extends Collecting {
        private final TreeMap<Long, List<Partial>> windows = new TreeMap<>();

        private static boolean guest(Partial p) {
            return p.d == p.key + SIZE;
        }

        @Override
        void collect(Partial p) {
            windows.computeIfAbsent(p.key, start -> new ArrayList<>()).add(p);
        }

        @Override
        void advance(long time) {
            while (!windows.isEmpty() && windows.firstKey() + SIZE - 1 <= time) {
                List<Partial> bids = windows.pollFirstEntry().getValue();
                long price = -1;
                for (Partial p : bids) {
                    price = guest(p) ? price : Math.max(price, p.c);
                }
                for (Partial p : bids) {
                    if (p.c == price) {
                        send(p);
                    }
                }
            }
        }

        @Override
        void save(Consumer<Partial> to) {
            windows.values().forEach(bids -> bids.forEach(to));
        }
    }
}
