package org.millrace.peers.jet;

import static com.hazelcast.jet.aggregate.AggregateOperations.counting;
import static com.hazelcast.jet.pipeline.WindowDefinition.session;

import com.hazelcast.jet.pipeline.Pipeline;
import org.millrace.peers.Request;
import org.millrace.peers.g1.Event;

/** How often each bidder bids in a session. */
final class Sessions {
    private static final long GAP = 10_000;

    private Sessions() {}

    static void q11(Pipeline pipeline, Request request) {
        pipeline.readFrom(EventReader.source(request, (generator, e) -> e.kind == Event.Kind.BID ? e.bidder : null))
                .withNativeTimestamps(0)
                .setLocalParallelism(request.parallelism())
                .groupingKey(bidder -> bidder)
                // In Jet, events exactly the timeout apart are two sessions; here they are one.
                .window(session(GAP + 1))
                .aggregate(counting())
                .setLocalParallelism(request.parallelism())
                .writeTo(TallySinks.of(request, (window, row) ->
                        row.add(window.key()).add(window.result()).add(window.start()).add(window.end() - 1)));
    }
}
