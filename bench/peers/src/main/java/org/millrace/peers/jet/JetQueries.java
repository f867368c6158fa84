package org.millrace.peers.jet;

import com.hazelcast.jet.pipeline.Pipeline;
import java.util.Map;
import org.millrace.peers.Request;

/** The queries by name. */
final class JetQueries {
    private static final Map<String, Query> QUERIES = Map.of(
            "q0", Stateless::q0, "q1", Stateless::q1, "q2", Stateless::q2,
            "q5", TopAuctions::q5, "q5k", TopAuctions::q5k, "q7", HighestBids::q7, "q8", NewSellers::q8,
            "q11", Sessions::q11);

    private JetQueries() {}

    /** Adds a query's stages to a pipeline. */
    @FunctionalInterface
    interface Query {
        void build(Pipeline pipeline, Request request);
    }

    static Pipeline build(Request request) {
        Query query = QUERIES.get(request.query());
        if (query == null) {
            throw new IllegalArgumentException("no " + request.query() + " in Jet");
        }
        Pipeline pipeline = Pipeline.create();
        query.build(pipeline, request);
        return pipeline;
    }
}
