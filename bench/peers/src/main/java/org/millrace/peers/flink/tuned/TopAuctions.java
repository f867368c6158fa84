package org.millrace.peers.flink.tuned;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.millrace.peers.flink.TallySink;
import org.millrace.peers.g1.Event;

/**
 * Q5: bids are counted by slice of a slide; a window's counts are the last one's, plus the slice that enters, minus the one
 * that leaves. Each subtask sends a window's best, and the best of those are the result.
 */
final class TopAuctions {
    private static final long SIZE = 10_000;

    private TopAuctions() {}

    static void build(TunedQueries q) {
        TallySink.Format<Partial> format = () -> (p, row, tally) -> tally.add(row.clear().add(p.b).add(p.a));
        long slide = q.request.slide();
        if (SIZE % slide != 0) {
            throw new IllegalArgumentException("the slide of q5 by hand divides ten seconds");
        }
        q.result(
                TunedQueries.inOnePlace(
                        TunedQueries.byKey(q.bids(TunedQueries.fourSeconds()), new CountBids(slide), new Windows(slide)),
                        new Best()),
                format);
    }

    /** Sends (auction, slice's start, count). */
    private static final class CountBids extends Combiner {
        private final long slide;
        private transient LongTable counts;
        private transient long slice, end;

        CountBids(long slide) {
            this.slide = slide;
        }

        @Override
        public void open() throws Exception {
            super.open();
            counts = new LongTable(1);
            end = Long.MIN_VALUE;
        }

        @Override
        void fold(Event bid) {
            if (bid.time >= end) { // a reader's events are in order
                flush();
                slice = bid.time - Math.floorMod(bid.time, slide);
                end = slice + slide;
            }
            counts.add(counts.entry(bid.auction), 0, 1);
        }

        @Override
        void flush() {
            for (int i = 0; i < counts.size(); i++) {
                send(Partial.of(counts.key(i), slice, counts.value(i, 0), 0));
            }
            counts.clear();
        }
    }

    /** Sends (window's end, count, auction) of the auctions that have the most here. */
    private static final class Windows extends Collecting {
        /** The key of what tells a snapshot's next window; it comes first. */
        private static final long NEXT_END = Long.MIN_VALUE;

        private final long slide;
        private final TreeMap<Long, LongTable> slices = new TreeMap<>();
        private LongTable window = new LongTable(1);
        private long nextEnd = Long.MIN_VALUE;
        private int gone;

        Windows(long slide) {
            this.slide = slide;
        }

        @Override
        void collect(Partial p) {
            if (p.key == NEXT_END) {
                nextEnd = p.a;
                return;
            }
            LongTable slice = slices.computeIfAbsent(p.a, start -> new LongTable(1));
            slice.add(slice.entry(p.key), 0, p.b);
            if (nextEnd != Long.MIN_VALUE && p.a + slide < nextEnd) {
                // Only of a snapshot: the slices that the next window shares with those before.
                count(p.key, p.b);
            }
        }

        @Override
        void advance(long time) {
            if (nextEnd == Long.MIN_VALUE) {
                if (slices.isEmpty()) {
                    return;
                }
                nextEnd = slices.firstKey() + slide;
            }
            while (nextEnd - 1 <= time && !slices.isEmpty()) {
                LongTable enters = slices.get(nextEnd - slide);
                if (enters != null) {
                    for (int i = 0; i < enters.size(); i++) {
                        count(enters.key(i), enters.value(i, 0));
                    }
                }
                LongTable leaves = slices.remove(nextEnd - slide - SIZE);
                if (leaves != null) {
                    for (int i = 0; i < leaves.size(); i++) {
                        count(leaves.key(i), -leaves.value(i, 0));
                    }
                }
                best();
                nextEnd += slide;
                if (slices.isEmpty()) {
                    nextEnd = Long.MIN_VALUE;
                }
            }
        }

        private void count(long auction, long more) {
            int entry = window.entry(auction);
            long before = window.value(entry, 0);
            window.set(entry, 0, before + more);
            if (before + more == 0) {
                gone++;
            }
        }

        private void best() {
            long most = 0;
            for (int i = 0; i < window.size(); i++) {
                most = Math.max(most, window.value(i, 0));
            }
            for (int i = 0; most > 0 && i < window.size(); i++) {
                if (window.value(i, 0) == most) {
                    send(Partial.of(nextEnd, most, window.key(i), 0));
                }
            }
            if (gone > window.size() / 2) {
                LongTable rest = new LongTable(1);
                for (int i = 0; i < window.size(); i++) {
                    if (window.value(i, 0) != 0) {
                        rest.set(rest.entry(window.key(i)), 0, window.value(i, 0));
                    }
                }
                window = rest;
                gone = 0;
            }
        }

        @Override
        void save(Consumer<Partial> to) {
            to.accept(Partial.of(NEXT_END, nextEnd, 0, 0));
            slices.forEach((start, slice) -> {
                for (int i = 0; i < slice.size(); i++) {
                    to.accept(Partial.of(slice.key(i), start, slice.value(i, 0), 0));
                }
            });
        }
    }

    /** Of each window's (end, count, auction), those of the greatest count. */
    private static final class Best extends Collecting {
        private final TreeMap<Long, List<Partial>> windows = new TreeMap<>();

        @Override
        void collect(Partial p) {
            List<Partial> best = windows.computeIfAbsent(p.key, end -> new ArrayList<>());
            if (!best.isEmpty() && p.a > best.get(0).a) {
                best.clear();
            }
            if (best.isEmpty() || p.a == best.get(0).a) {
                best.add(p);
            }
        }

        @Override
        void advance(long time) {
            while (!windows.isEmpty() && windows.firstKey() - 1 <= time) {
                windows.pollFirstEntry().getValue().forEach(this::send);
            }
        }

        @Override
        void save(Consumer<Partial> to) {
            windows.values().forEach(best -> best.forEach(to));
        }
    }
}
