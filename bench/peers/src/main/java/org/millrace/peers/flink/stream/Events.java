package org.millrace.peers.flink.stream;

import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.millrace.peers.Request;
import org.millrace.peers.flink.EventMaker;
import org.millrace.peers.flink.EventSource;

/** The streams of a run, all from one source. */
final class Events {
    private static final EventMaker<NexmarkEvent> MAKER = (generator, event) -> () -> {
        NexmarkEvent made = new NexmarkEvent();
        switch (event.kind) {
            case PERSON -> made.person = new Person(event);
            case AUCTION -> made.auction = new Auction(event);
            case BID -> made.bid = new Bid(event, generator.channels());
        }
        return made;
    };

    private final DataStream<NexmarkEvent> all;
    private final long slide;

    Events(StreamExecutionEnvironment env, Request request) {
        slide = request.slide();
        all = env.fromSource(
                new EventSource<>(request.settings(), request.readers(), request.linger(), request.limit(), MAKER),
                WatermarkStrategy.forBoundedOutOfOrderness(Duration.ofSeconds(4)),
                "nexmark",
                TypeInformation.of(NexmarkEvent.class));
    }

    DataStream<NexmarkEvent> all() {
        return all;
    }

    DataStream<Person> persons() {
        return all.filter(e -> e.person != null).map(e -> e.person).returns(Person.class);
    }

    DataStream<Auction> auctions() {
        return all.filter(e -> e.auction != null).map(e -> e.auction).returns(Auction.class);
    }

    DataStream<Bid> bids() {
        return all.filter(e -> e.bid != null).map(e -> e.bid).returns(Bid.class);
    }

    /** Of q5's windows. */
    Duration slide() {
        return Duration.ofMillis(slide);
    }
}
