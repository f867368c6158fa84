package org.millrace.peers.flink.tuned;

import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.millrace.peers.flink.TallySink;
import org.millrace.peers.g1.Event;
import org.millrace.peers.g1.Event.Kind;
import org.millrace.peers.g1.Words;

/** Q8: each reader sends a seller once a window. */
final class NewSellers {
    private static final long SIZE = 10_000;

    private NewSellers() {}

    static void build(TunedQueries q) {
        TallySink.Format<Partial> format = () -> (p, row, tally) -> tally.add(row.clear().add(p.key).add(p.text).add(p.a));
        q.result(
                TunedQueries.byKey(
                        q.events(TunedQueries.fourSeconds(), (generator, event) -> () -> event.kind == Kind.BID ? null : event),
                        new PersonsAndSellers(), new Both()),
                format);
    }

    /** Sends (person, window's start), and the name if it is a new one; a seller has none. */
    private static final class PersonsAndSellers extends Combiner {
        private transient LongTable sellers;
        private transient long window, end;

        @Override
        public void open() throws Exception {
            super.open();
            sellers = new LongTable(0);
            end = Long.MIN_VALUE;
        }

        @Override
        void fold(Event event) {
            if (event.time >= end) { // a reader's events are in order
                flush();
                window = event.time - Math.floorMod(event.time, SIZE);
                end = window + SIZE;
            }
            if (event.kind == Kind.AUCTION) {
                sellers.entry(event.seller);
            } else {
                Partial person = Partial.of(event.id, window, 0, 0);
                person.text = Words.name(event.name);
                send(person);
            }
        }

        @Override
        void flush() {
            for (int i = 0; i < sellers.size(); i++) {
                send(Partial.of(sellers.key(i), window, 0, 0));
            }
            sellers.clear();
        }
    }

    /** Sends a person when both have come. */
    private static final class Both extends Collecting {
        private final TreeMap<Long, Map<Long, Seen>> windows = new TreeMap<>();

        private static final class Seen {
            Partial person;
            boolean sells, sent;
        }

        @Override
        void collect(Partial p) {
            Seen seen = windows.computeIfAbsent(p.a, start -> new HashMap<>()).computeIfAbsent(p.key, id -> new Seen());
            if (p.text != null) {
                seen.person = p;
                seen.sent = p.b == 1; // by what wrote the snapshot that it is from
            } else {
                seen.sells = true;
            }
            if (seen.person != null && seen.sells && !seen.sent) {
                seen.sent = true;
                send(seen.person);
            }
        }

        @Override
        void advance(long time) {
            while (!windows.isEmpty() && windows.firstKey() + SIZE - 1 <= time) {
                windows.pollFirstEntry();
            }
        }

        @Override
        void save(Consumer<Partial> to) {
            windows.forEach((start, all) -> all.forEach((id, seen) -> {
                if (seen.person != null) {
                    Partial person = Partial.of(id, start, seen.sent ? 1 : 0, 0);
                    person.text = seen.person.text;
                    to.accept(person);
                }
                if (seen.sells) {
                    to.accept(Partial.of(id, start, 0, 0));
                }
            }));
        }
    }
}
