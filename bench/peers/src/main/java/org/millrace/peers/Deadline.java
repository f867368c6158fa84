package org.millrace.peers;

import java.util.concurrent.TimeUnit;

/** When a source ends though it has more; it begins with the first look at it. */
public final class Deadline {
    private final long limit;
    private long started;
    private boolean running;

    /** Passes after so many milliseconds; 0 is never. */
    public Deadline(long limit) {
        this.limit = limit;
    }

    public boolean passed() {
        if (limit == 0) {
            return false;
        }
        long now = System.nanoTime();
        if (!running) {
            running = true;
            started = now;
        }
        return now - started >= TimeUnit.MILLISECONDS.toNanos(limit);
    }
}
