package org.millrace.peers.jet;

import com.hazelcast.jet.pipeline.Sink;
import com.hazelcast.jet.pipeline.SinkBuilder;
import com.hazelcast.jet.pipeline.Sinks;
import java.io.Serializable;
import org.millrace.peers.Outcome;
import org.millrace.peers.Request;
import org.millrace.peers.rows.RowText;
import org.millrace.peers.rows.Tally;

/** Where results go: into a tally, or nowhere. */
final class TallySinks {
    private TallySinks() {}

    /** Writes a result's columns. */
    @FunctionalInterface
    interface Columns<T> extends Serializable {
        void write(T result, RowText row);
    }

    static <T> Sink<T> of(Request request, Columns<T> columns) {
        if (!request.tallied()) {
            return Sinks.noop();
        }
        return SinkBuilder.sinkBuilder("tally", context -> new Writer())
                .<T>receiveFn((writer, result) -> {
                    columns.write(result, writer.row.clear());
                    writer.tally.add(writer.row);
                })
                .destroyFn(writer -> Outcome.add(writer.tally))
                .preferredLocalParallelism(request.parallelism())
                .build();
    }

    private static final class Writer {
        final Tally tally = new Tally();
        final RowText row = new RowText();
    }
}
