package org.millrace.peers.g1;

/**
 * The events of one reader out of several, in order. Readers take turns at blocks of about a thousand events, so that no
 * reader is far ahead in event time; a block begins where a millisecond does, so that events of equal time are one reader's
 * and stay in order.
 */
public final class Cursor {
    private static final long BLOCK = 1000;

    private final Settings settings;
    private final int reader, readers;
    private long block, next, end;

    public Cursor(Settings settings, int reader, int readers) {
        this.settings = settings;
        this.reader = reader;
        this.readers = readers;
        seek(reader, start(reader));
    }

    /** The number of the reader's next event, or -1 after its last one. */
    public long next() {
        while (next >= end) {
            if (start(block) >= settings.events()) {
                return -1;
            }
            seek(block + readers, start(block + readers));
        }
        return next++;
    }

    /** What {@link #restore} goes on from. */
    public long[] position() {
        return new long[] {block, next};
    }

    public void restore(long[] position) {
        seek(position[0], position[1]);
    }

    public int reader() {
        return reader;
    }

    private void seek(long block, long next) {
        this.block = block;
        this.next = next;
        this.end = Math.min(start(block + 1), settings.events());
    }

    /** The first event of a block: the first at or after its thousand whose time is not the one before's. */
    private long start(long block) {
        long n = block * BLOCK;
        if (n == 0) {
            return 0;
        }
        long before = settings.time(n - 1);
        return settings.time(n) > before ? n : settings.firstAt(before + 1 - Settings.BASE);
    }
}
