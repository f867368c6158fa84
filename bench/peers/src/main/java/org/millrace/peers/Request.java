package org.millrace.peers;

import java.util.HashMap;
import java.util.Map;
import org.millrace.peers.g1.Settings;

/** What one run is to do: {@code name=value} pairs on a line. */
public record Request(Map<String, String> values) {
    public static Request parse(String line) {
        Map<String, String> values = new HashMap<>();
        for (String pair : line.trim().split("\\s+")) {
            int at = pair.indexOf('=');
            if (at < 1) {
                throw new IllegalArgumentException("not name=value: " + pair);
            }
            values.put(pair.substring(0, at), pair.substring(at + 1));
        }
        return new Request(values);
    }

    /** q0 to q23, or q5k. */
    public String query() {
        String query = values.get("query");
        if (query == null) {
            throw new IllegalArgumentException("a request names its query");
        }
        return query;
    }

    /** sql, stream or tuned; jet has one form. */
    public String form() {
        return values.getOrDefault("form", "sql");
    }

    public Settings settings() {
        return new Settings(number("seed", 1), number("rate", 10_000), number("events", 100_000));
    }

    /** Whether rows are tallied; else they are dropped. */
    public boolean tallied() {
        return Boolean.parseBoolean(values.getOrDefault("tally", "false"));
    }

    public int parallelism() {
        return (int) number("parallelism", 2);
    }

    /** How many subtasks of the source have events. */
    public int readers() {
        return (int) number("readers", parallelism());
    }

    /** hashmap or rocksdb. */
    public String state() {
        return values.getOrDefault("state", "hashmap");
    }

    /** Between checkpoints, in milliseconds; 0 for none. */
    public long checkpointInterval() {
        return number("checkpoint", 1000);
    }

    /** Of the sliding windows of q5, in milliseconds. */
    public long slide() {
        return number("slide", 2000);
    }

    /** How long the source stays open after its last event, in milliseconds. */
    public long linger() {
        return number("linger", 0);
    }

    /** After how long the source ends, though it has more events, in milliseconds; 0 for never. */
    public long limit() {
        return number("limit", 0);
    }

    /** The folder for checkpoints. */
    public String folder() {
        return values.getOrDefault("folder", System.getProperty("java.io.tmpdir") + "/millrace-peers");
    }

    private long number(String name, long otherwise) {
        String value = values.get(name);
        return value == null ? otherwise : Long.parseLong(value);
    }
}
