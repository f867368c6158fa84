package org.millrace.peers.flink.sql;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.TableDescriptor;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.millrace.peers.Request;

/** Plans and runs the benchmark's statements. */
public final class SqlQueries {
    private SqlQueries() {}

    public static void run(StreamExecutionEnvironment env, Request request) throws Exception {
        StreamTableEnvironment tables = StreamTableEnvironment.create(env);
        // As the benchmark sets them.
        tables.getConfig().set("table.exec.mini-batch.enabled", "true");
        tables.getConfig().set("table.exec.mini-batch.allow-latency", "2s");
        tables.getConfig().set("table.exec.mini-batch.size", "50000");
        tables.getConfig().set("table.optimizer.distinct-agg.split.enabled", "true");
        tables.getConfig().set("table.local-time-zone", "UTC");
        tables.createTemporarySystemFunction("count_char", CountChar.class);
        for (String statement : text("events", request).split(";\\s*")) {
            if (!statement.isBlank()) {
                tables.executeSql(statement);
            }
        }
        tables.sqlQuery(text(request.query(), request)).insertInto(sink(request)).execute().await();
    }

    private static TableDescriptor sink(Request request) {
        if (request.tallied()) {
            return TableDescriptor.forConnector(TallyTables.CONNECTOR)
                    .option(TallyTables.SUMMED, request.query().equals("q12"))
                    .build();
        }
        if (request.query().equals("q10")) { // whose result is files, by the minute, as the benchmark sets them
            return TableDescriptor.forConnector("filesystem")
                    .option("path", Path.of(request.folder(), "q10-" + System.nanoTime()).toUri().toString())
                    .format("csv")
                    .option("sink.partition-commit.trigger", "partition-time")
                    .option("sink.partition-commit.delay", "1 min")
                    .option("sink.partition-commit.policy.kind", "success-file")
                    .option("partition.time-extractor.timestamp-pattern", "$dt $hm:00")
                    .option("sink.rolling-policy.rollover-interval", "1min")
                    .option("sink.rolling-policy.check-interval", "1min")
                    .partitionedBy("dt", "hm")
                    .build();
        }
        return TableDescriptor.forConnector("blackhole").build();
    }

    /** A resource, with the request's values in place of their names. */
    private static String text(String name, Request request) throws IOException {
        try (InputStream in = SqlQueries.class.getResourceAsStream("/sql/" + name + ".sql")) {
            if (in == null) {
                throw new IllegalArgumentException("no SQL of " + name);
            }
            return new String(in.readAllBytes(), StandardCharsets.UTF_8)
                    .replace("${seed}", Long.toString(request.settings().seed()))
                    .replace("${rate}", Long.toString(request.settings().rate()))
                    .replace("${events}", Long.toString(request.settings().events()))
                    .replace("${readers}", Integer.toString(request.readers()))
                    .replace("${linger}", Long.toString(request.linger()))
                    .replace("${limit}", Long.toString(request.limit()))
                    // The official text leaves q9's ties open: what is compared settles them by the event's number, what
                    // is timed is the official text.
                    .replace("${bids}", request.tallied() ? "numbered_bid" : "bid")
                    .replace("${tie}", request.tallied() ? ", B.number ASC" : "")
                    .replace("${slide}", slide(request.slide()));
        }
    }

    /** Seconds, with decimals only where there are any. */
    private static String slide(long millis) {
        return millis % 1000 == 0 ? Long.toString(millis / 1000) : "%d.%03d".formatted(millis / 1000, millis % 1000);
    }
}
