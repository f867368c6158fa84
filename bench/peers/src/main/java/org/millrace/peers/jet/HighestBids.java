package org.millrace.peers.jet;

import static com.hazelcast.jet.pipeline.WindowDefinition.tumbling;

import com.hazelcast.jet.Traversers;
import com.hazelcast.jet.aggregate.AggregateOperation;
import com.hazelcast.jet.pipeline.Pipeline;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.millrace.peers.Request;
import org.millrace.peers.g1.Event;
import org.millrace.peers.g1.Generator;

/** The bids of the highest price in each ten seconds. */
final class HighestBids {
    private static final long SIZE = 10_000;

    private HighestBids() {}

    /** A bid at a window's very end comes a second time, a millisecond earlier, as a guest of that window. */
    private static final class BidsAndGuests implements EventReader.Maker<Bid> {
        @Override
        public Bid make(Generator generator, Event e) {
            return e.kind == Event.Kind.BID ? Bid.of(e, generator.channels()) : null;
        }

        @Override
        public Bid guest(Bid made, Event e) {
            return e.time % SIZE == 0 ? made.asGuest() : null;
        }
    }

    static void q7(Pipeline pipeline, Request request) {
        pipeline.readFrom(EventReader.source(request, new BidsAndGuests()))
                .withNativeTimestamps(0)
                .setLocalParallelism(request.parallelism())
                .window(tumbling(SIZE))
                .aggregate(AggregateOperation.withCreate(Highest::new)
                        .<Bid>andAccumulate(Highest::add)
                        .andCombine(Highest::add)
                        .andExportFinish(Highest::result))
                .flatMap(window -> Traversers.traverseIterable(window.result()))
                .writeTo(TallySinks.of(request, (b, row) -> row.add(b.auction()).add(b.price()).add(b.bidder())
                        .add(b.dateTime()).add(b.extra())));
    }

    private static final class Highest implements Serializable {
        private final List<Bid> highest = new ArrayList<>();
        private final List<Bid> guests = new ArrayList<>();

        void add(Bid bid) {
            if (bid.guest()) {
                guests.add(bid);
                return;
            }
            if (!highest.isEmpty() && bid.price() > highest.get(0).price()) {
                highest.clear();
            }
            if (highest.isEmpty() || bid.price() == highest.get(0).price()) {
                highest.add(bid);
            }
        }

        void add(Highest other) {
            other.highest.forEach(this::add);
            guests.addAll(other.guests);
        }

        List<Bid> result() {
            List<Bid> all = new ArrayList<>(highest);
            for (Bid guest : guests) {
                if (!highest.isEmpty() && guest.price() == highest.get(0).price()) {
                    all.add(guest);
                }
            }
            return all;
        }
    }
}
