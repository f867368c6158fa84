package org.millrace.peers.flink.stream;

import java.io.IOException;
import java.io.OutputStream;
import java.io.Serializable;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.common.serialization.Encoder;
import org.apache.flink.api.java.tuple.Tuple;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.core.fs.Path;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.functions.sink.filesystem.BucketAssigner;
import org.apache.flink.streaming.api.functions.sink.filesystem.bucketassigners.SimpleVersionedStringSerializer;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.function.SerializableFunction;
import org.millrace.peers.flink.TallySink;
import org.millrace.peers.rows.RowText;
import org.millrace.peers.rows.Tally;

/** Where a query's result goes: into a tally, or nowhere. */
final class Output {
    private final boolean tallied;
    private final String folder;

    /** folder is for files, where a query's result is such. */
    Output(boolean tallied, String folder) {
        this.tallied = tallied;
        this.folder = folder;
    }

    /** Writes a record's columns. */
    @FunctionalInterface
    interface Columns<T> extends Serializable {
        void write(T record, RowText row);
    }

    /** What of a record says which row it is. */
    @FunctionalInterface
    interface Key<T> extends Serializable {
        Object of(T record);
    }

    /** Each record is a row. */
    <T> void rows(DataStream<T> result, Columns<T> columns) {
        TallySink.Change<T> change = (TallySink.Change<T> & Serializable) (record, row, tally) -> {
            columns.write(record, row.clear());
            tally.add(row);
        };
        sink(result, () -> change);
    }

    /** Each tuple is a row. */
    <T extends Tuple> void rows(DataStream<T> result) {
        rows(result, Output::tuple);
    }

    /** Each record replaces the one of the same key. */
    <T> void updates(DataStream<T> result, Key<T> key, Columns<T> columns) {
        sink(result, () -> new Latest<>(key, columns));
    }

    <T extends Tuple> void updates(DataStream<T> result, Key<T> key) {
        updates(result, key, Output::tuple);
    }

    /** Each record is a row, and a line of a file of its folder where rows are not tallied. */
    <T> void files(DataStream<T> result, SerializableFunction<T, String> folderOf, Columns<T> columns) {
        if (tallied) {
            rows(result, columns);
            return;
        }
        result.sinkTo(FileSink.forRowFormat(new Path(folder), new Lines<>(columns))
                .withBucketAssigner(new Folders<>(folderOf))
                .build());
    }

    private static final class Lines<T> implements Encoder<T> {
        private final Columns<T> columns;
        private transient RowText row;

        Lines(Columns<T> columns) {
            this.columns = columns;
        }

        @Override
        public void encode(T record, OutputStream to) throws IOException {
            if (row == null) {
                row = new RowText();
            }
            columns.write(record, row.clear());
            row.newline();
            to.write(row.bytes(), 0, row.length());
        }
    }

    private record Folders<T>(SerializableFunction<T, String> of) implements BucketAssigner<T, String> {
        @Override
        public String getBucketId(T record, Context context) {
            return of.apply(record);
        }

        @Override
        public SimpleVersionedSerializer<String> getSerializer() {
            return SimpleVersionedStringSerializer.INSTANCE;
        }
    }

    /** The second fields' sums by the first are the rows. */
    void sums(DataStream<Tuple2<Long, Long>> result) {
        sink(result, Summed::new);
    }

    private <T> void sink(DataStream<T> result, TallySink.Format<T> format) {
        if (tallied) {
            result.sinkTo(new TallySink<>(format)).setParallelism(result.getParallelism());
        } else {
            result.sinkTo(new DiscardingSink<>()).setParallelism(result.getParallelism());
        }
    }

    private static void tuple(Tuple record, RowText row) {
        for (int i = 0; i < record.getArity(); i++) {
            row.addObject(record.getField(i));
        }
    }

    private static final class Latest<T> implements TallySink.Change<T> {
        private final Key<T> key;
        private final Columns<T> columns;
        private final Map<Object, String> rows = new HashMap<>();
        private final RowText before = new RowText();

        Latest(Key<T> key, Columns<T> columns) {
            this.key = key;
            this.columns = columns;
        }

        @Override
        public void apply(T record, RowText row, Tally tally) {
            columns.write(record, row.clear());
            String replaced = rows.put(key.of(record), row.toString());
            if (replaced != null) {
                tally.retract(before.clear().add(replaced));
            }
            tally.add(row);
        }
    }

    private static final class Summed implements TallySink.Change<Tuple2<Long, Long>> {
        private final Map<Long, Long> sums = new HashMap<>();

        @Override
        public void apply(Tuple2<Long, Long> record, RowText row, Tally tally) {
            sums.merge(record.f0, record.f1, Long::sum);
        }

        @Override
        public Map<Long, Long> sums() {
            return sums;
        }
    }
}
