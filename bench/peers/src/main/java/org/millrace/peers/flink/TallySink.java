package org.millrace.peers.flink;

import java.io.Serializable;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.millrace.peers.Outcome;
import org.millrace.peers.rows.RowText;
import org.millrace.peers.rows.Tally;

/** Tallies rows and adds them to the run's outcome once the input has ended. */
public final class TallySink<T> implements Sink<T> {
    private final Format<T> format;

    public TallySink(Format<T> format) {
        this.format = format;
    }

    /** How a record is a change of the result; opened once a writer. */
    @FunctionalInterface
    public interface Format<T> extends Serializable {
        Change<T> open();
    }

    /** Applies a record to a tally. */
    public interface Change<T> {
        void apply(T record, RowText row, Tally tally);

        /** Sums by key that stand for rows, where the query's rows are to be summed. */
        default Map<Long, Long> sums() {
            return new HashMap<>();
        }
    }

    @Override
    public SinkWriter<T> createWriter(WriterInitContext context) {
        return new Writer<>(format.open());
    }

    private static final class Writer<T> implements SinkWriter<T> {
        private final Change<T> change;
        private final Tally tally = new Tally();
        private final RowText row = new RowText();

        Writer(Change<T> change) {
            this.change = change;
        }

        @Override
        public void write(T record, Context context) {
            change.apply(record, row, tally);
        }

        @Override
        public void flush(boolean endOfInput) {
            if (endOfInput) {
                Outcome.add(tally);
                Outcome.add(change.sums());
            }
        }

        @Override
        public void close() {}
    }
}
