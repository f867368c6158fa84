package org.millrace.peers.flink.tuned;

import java.time.Duration;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.java.typeutils.GenericTypeInfo;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.millrace.peers.Request;
import org.millrace.peers.flink.EventMaker;
import org.millrace.peers.flink.EventSource;
import org.millrace.peers.flink.TallySink;
import org.millrace.peers.g1.Event;

/** The queries by name, and what they are built of. */
public final class TunedQueries {
    private static final Map<String, Query> QUERIES = Map.of(
            "q0", Stateless::q0, "q1", Stateless::q1, "q2", Stateless::q2,
            "q5", TopAuctions::build, "q7", HighestBids::build, "q8", NewSellers::build, "q11", Sessions::build);

    private final StreamExecutionEnvironment env;
    final Request request;

    private TunedQueries(StreamExecutionEnvironment env, Request request) {
        this.env = env;
        this.request = request;
    }

    @FunctionalInterface
    interface Query {
        void build(TunedQueries queries);
    }

    public static void build(StreamExecutionEnvironment env, Request request) {
        Query query = QUERIES.get(request.query());
        if (query == null) {
            throw new IllegalArgumentException("no " + request.query() + " tuned by hand");
        }
        query.build(new TunedQueries(env, request));
    }

    /** The bids, always the same object. Nothing that is not chained to it may read it. */
    DataStream<Event> bids(WatermarkStrategy<Event> watermarks) {
        return events(watermarks, (generator, event) -> () -> event.kind == Event.Kind.BID ? event : null);
    }

    DataStream<Event> events(WatermarkStrategy<Event> watermarks, EventMaker<Event> maker) {
        return env.fromSource(
                new EventSource<>(request.settings(), request.readers(), request.linger(), request.limit(), maker),
                watermarks, "nexmark", new GenericTypeInfo<>(Event.class));
    }

    static WatermarkStrategy<Event> fourSeconds() {
        return WatermarkStrategy.forBoundedOutOfOrderness(Duration.ofSeconds(4));
    }

    /** Combined by each reader, then collected by key. */
    static DataStream<Partial> byKey(DataStream<Event> events, Combiner combiner,
            OneInputStreamOperator<Partial, Partial> collecting) {
        return events.transform("combine", Partial.TYPE, combiner)
                .keyBy(partial -> partial.key)
                .transform("collect", Partial.TYPE, collecting);
    }

    /** Collected in one place. */
    static DataStream<Partial> inOnePlace(DataStream<Partial> partials, OneInputStreamOperator<Partial, Partial> collecting) {
        return partials.global().transform("collect all", Partial.TYPE, collecting).setParallelism(1);
    }

    /** Where results go: into a tally, or nowhere. */
    <T> void result(DataStream<T> results, TallySink.Format<T> format) {
        if (request.tallied()) {
            results.sinkTo(new TallySink<>(format)).setParallelism(results.getParallelism());
        } else {
            results.sinkTo(new DiscardingSink<>()).setParallelism(results.getParallelism());
        }
    }
}
