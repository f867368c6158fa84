package org.millrace.peers.jet;

import static com.hazelcast.jet.pipeline.WindowDefinition.tumbling;

import com.hazelcast.jet.aggregate.AggregateOperation;
import com.hazelcast.jet.pipeline.Pipeline;
import com.hazelcast.jet.pipeline.StreamStage;
import java.io.Serializable;
import org.millrace.peers.Request;
import org.millrace.peers.g1.Words;

/** Who registered and opened an auction in the same ten seconds. */
final class NewSellers {
    private static final long SIZE = 10_000;

    private NewSellers() {}

    static void q8(Pipeline pipeline, Request request) {
        // A person, or the seller of an auction.
        StreamStage<Object> both = pipeline.readFrom(EventReader.<Object>source(request, (generator, e) ->
                        switch (e.kind) {
                            case PERSON -> new Person(e.id, Words.name(e.name));
                            case AUCTION -> e.seller;
                            case BID -> null;
                        }))
                .withNativeTimestamps(0)
                .setLocalParallelism(request.parallelism());
        both.groupingKey(e -> e instanceof Person p ? p.id() : (Long) e)
                .window(tumbling(SIZE))
                .aggregate(AggregateOperation.withCreate(Seen::new)
                        .<Object>andAccumulate(Seen::add)
                        .andCombine(Seen::add)
                        .andExportFinish(seen -> seen.sold ? seen.name : null))
                .setLocalParallelism(request.parallelism())
                .filter(window -> window.result() != null)
                .writeTo(TallySinks.of(request,
                        (window, row) -> row.add(window.key()).add(window.result()).add(window.start())));
    }

    private static final class Seen implements Serializable {
        private String name;
        private boolean sold;

        void add(Object e) {
            if (e instanceof Person p) {
                name = p.name();
            } else {
                sold = true;
            }
        }

        void add(Seen other) {
            name = name == null ? other.name : name;
            sold |= other.sold;
        }
    }
}
