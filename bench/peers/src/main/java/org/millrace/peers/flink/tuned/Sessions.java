package org.millrace.peers.flink.tuned;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.millrace.peers.flink.TallySink;
import org.millrace.peers.g1.Event;

/** Q11: each reader sends stretches of bids no further apart than the gap, which are put together to sessions. */
final class Sessions {
    private static final long GAP = 10_000;

    private Sessions() {}

    static void build(TunedQueries q) {
        TallySink.Format<Partial> format = () -> (p, row, tally) -> tally.add(
                row.clear().add(p.key).add(p.c).add(p.a).add(p.b + GAP));
        q.result(TunedQueries.byKey(q.bids(TunedQueries.fourSeconds()), new Stretches(), new Merged()), format);
    }

    /** Sends (bidder, first bid, last bid, count). */
    private static final class Stretches extends Combiner {
        private static final int FIRST = 0, LAST = 1, COUNT = 2;
        private static final int MOST = 1 << 14;
        private transient LongTable bidders;

        @Override
        public void open() throws Exception {
            super.open();
            bidders = new LongTable(3);
        }

        @Override
        void fold(Event bid) {
            int i = bidders.entry(bid.bidder);
            if (bidders.value(i, COUNT) > 0 && bid.time > bidders.value(i, LAST) + GAP) {
                send(i);
                bidders.set(i, COUNT, 0);
            }
            if (bidders.value(i, COUNT) == 0) {
                bidders.set(i, FIRST, bid.time);
            }
            bidders.set(i, LAST, bid.time);
            bidders.add(i, COUNT, 1);
            if (bidders.size() >= MOST) {
                flush();
            }
        }

        private void send(int i) {
            send(Partial.of(bidders.key(i), bidders.value(i, FIRST), bidders.value(i, LAST), bidders.value(i, COUNT)));
        }

        @Override
        void flush() {
            for (int i = 0; i < bidders.size(); i++) {
                send(i);
            }
            bidders.clear();
        }
    }

    /** The sessions that may still grow, a few a bidder. */
    private static final class Merged extends Collecting {
        private final Map<Long, List<Partial>> bidders = new HashMap<>();

        @Override
        void collect(Partial next) {
            List<Partial> sessions = bidders.computeIfAbsent(next.key, bidder -> new ArrayList<>(1));
            for (Iterator<Partial> i = sessions.iterator(); i.hasNext(); ) {
                Partial so = i.next();
                if (next.a <= so.b + GAP && so.a <= next.b + GAP) {
                    next.a = Math.min(next.a, so.a);
                    next.b = Math.max(next.b, so.b);
                    next.c += so.c;
                    i.remove();
                }
            }
            sessions.add(next);
        }

        @Override
        void advance(long time) {
            for (Iterator<List<Partial>> all = bidders.values().iterator(); all.hasNext(); ) {
                List<Partial> sessions = all.next();
                for (Iterator<Partial> i = sessions.iterator(); i.hasNext(); ) {
                    Partial session = i.next();
                    if (session.b + GAP - 1 <= time) {
                        send(session);
                        i.remove();
                    }
                }
                if (sessions.isEmpty()) {
                    all.remove();
                }
            }
        }

        @Override
        void save(Consumer<Partial> to) {
            bidders.values().forEach(sessions -> sessions.forEach(to));
        }
    }
}
