package org.millrace.peers.flink.stream;

import java.util.List;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.millrace.peers.Request;

/** The queries by number. */
public final class StreamQueries {
    private static final List<Query> QUERIES = List.of(
            new Q0(), new Q1(), new Q2(), new Q3(), new Q4(), new Q5(), new Q6(), new Q7(), new Q8(), new Q9(), new Q10(),
            new Q11(), new Q12(), new Q13(), new Q14(), new Q15(), new Q16(), new Q17(), new Q18(), new Q19(), new Q20(),
            new Q21(), new Q22(), new Q23());

    private StreamQueries() {}

    /** Adds a query's operators to env. */
    interface Query {
        void build(Events events, Output out);
    }

    public static void build(StreamExecutionEnvironment env, Request request) {
        Query query = QUERIES.get(Integer.parseInt(request.query().substring(1)));
        query.build(new Events(env, request), new Output(request.tallied(), request.folder() + "/q10-" + System.nanoTime()));
    }
}
