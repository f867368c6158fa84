package org.millrace.peers.jet;

import com.hazelcast.jet.pipeline.Pipeline;
import com.hazelcast.jet.pipeline.StreamStage;
import java.math.BigDecimal;
import org.millrace.peers.Request;
import org.millrace.peers.g1.Event;

/** The queries that look at one bid at a time. */
final class Stateless {
    private Stateless() {}

    private static StreamStage<Bid> bids(Pipeline pipeline, Request request) {
        return pipeline.readFrom(EventReader.source(request,
                        (generator, e) -> e.kind == Event.Kind.BID ? Bid.of(e, generator.channels()) : null))
                .withoutTimestamps()
                .setLocalParallelism(request.parallelism());
    }

    static void q0(Pipeline pipeline, Request request) {
        bids(pipeline, request).writeTo(TallySinks.of(request,
                (b, row) -> row.add(b.auction()).add(b.bidder()).add(b.price()).add(b.dateTime()).add(b.extra())));
    }

    private record Converted(long auction, long bidder, BigDecimal price, long dateTime, String extra) {}

    static void q1(Pipeline pipeline, Request request) {
        bids(pipeline, request)
                .map(b -> new Converted(
                        b.auction(), b.bidder(), BigDecimal.valueOf(b.price() * 908, 3), b.dateTime(), b.extra()))
                .writeTo(TallySinks.of(request, (b, row) -> row.add(b.auction()).add(b.bidder())
                        .add(b.price().toPlainString()).add(b.dateTime()).add(b.extra())));
    }

    private record Price(long auction, long price) {}

    static void q2(Pipeline pipeline, Request request) {
        bids(pipeline, request)
                .filter(b -> b.auction() % 123 == 0)
                .map(b -> new Price(b.auction(), b.price()))
                .writeTo(TallySinks.of(request, (b, row) -> row.add(b.auction()).add(b.price())));
    }
}
