package org.millrace.peers.jet;

import static com.hazelcast.jet.aggregate.AggregateOperations.counting;
import static com.hazelcast.jet.pipeline.WindowDefinition.sliding;
import static com.hazelcast.jet.pipeline.WindowDefinition.tumbling;

import com.hazelcast.jet.Traversers;
import com.hazelcast.jet.aggregate.AggregateOperation;
import com.hazelcast.jet.datamodel.KeyedWindowResult;
import com.hazelcast.jet.pipeline.Pipeline;
import com.hazelcast.jet.pipeline.StreamStage;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.millrace.peers.Request;
import org.millrace.peers.g1.Event;

/** Counts of sliding windows of ten seconds. */
final class TopAuctions {
    private static final long SIZE = 10_000;
    private static final long MANY_SLIDES = 10;
    private static final long KEYS = 10_000;
    private static final long G = 0x9e3779b97f4a7c15L;

    private TopAuctions() {}

    private static StreamStage<KeyedWindowResult<Long, Long>> counts(
            Pipeline pipeline, Request request, EventReader.Maker<Long> key, long slide) {
        return pipeline.readFrom(EventReader.source(request, key))
                .withNativeTimestamps(0)
                .setLocalParallelism(request.parallelism())
                .groupingKey(k -> k)
                .window(sliding(SIZE, slide))
                .aggregate(counting())
                .setLocalParallelism(request.parallelism());
    }

    static void q5(Pipeline pipeline, Request request) {
        // A count's time is in the last slide of its window: a tumbling window of the slide holds one window's counts.
        counts(pipeline, request, (generator, e) -> e.kind == Event.Kind.BID ? e.auction : null, request.slide())
                .window(tumbling(request.slide()))
                .aggregate(AggregateOperation.withCreate(Most::new)
                        .<KeyedWindowResult<Long, Long>>andAccumulate((most, next) -> most.add(next.key(), next.result()))
                        .andCombine(Most::add)
                        .andExportFinish(most -> most))
                .setLocalParallelism(1)
                .flatMap(window -> Traversers.traverseStream(
                        window.result().auctions.stream().map(auction -> new Count(auction, window.result().count))))
                .writeTo(TallySinks.of(request, (c, row) -> row.add(c.auction).add(c.count)));
    }

    static void q5k(Pipeline pipeline, Request request) {
        counts(pipeline, request,
                (generator, e) -> e.kind == Event.Kind.BID ? (e.auction * G >>> 20) % KEYS : null, MANY_SLIDES)
                .writeTo(TallySinks.of(request, (c, row) -> row.add(c.key()).add(c.result()).add(c.end())));
    }

    private record Count(long auction, long count) {}

    /** The auctions of the greatest count. */
    private static final class Most implements Serializable {
        private final List<Long> auctions = new ArrayList<>();
        private long count;

        void add(long auction, long count) {
            if (count > this.count) {
                auctions.clear();
                this.count = count;
            }
            if (count == this.count) {
                auctions.add(auction);
            }
        }

        void add(Most other) {
            other.auctions.forEach(auction -> add(auction, other.count));
        }
    }
}
