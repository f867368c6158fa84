package org.millrace.peers.g1;

import java.io.Serializable;

/** A run: its seed, its events per second of event time, and how many events it has. */
public record Settings(long seed, long rate, long events) implements Serializable {
    /** 2026-01-01T00:00:00Z, in milliseconds. */
    public static final long BASE = 1767225600000L;

    public Settings {
        if (rate < 1 || events < 0) {
            throw new IllegalArgumentException("a run has a rate of at least 1 and no negative number of events");
        }
    }

    /** The event time of event n in milliseconds. */
    public long time(long n) {
        return BASE + n * 1000 / rate;
    }

    /** The first event at or after a number of milliseconds since the base. */
    long firstAt(long millis) {
        return (millis * rate + 999) / 1000;
    }
}
