package org.millrace.peers.rows;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/** XXH64, as its specification has it: of a whole array at once, or of bytes as they come. */
public final class Xxh64 {
    private static final long P1 = 0x9e3779b185ebca87L;
    private static final long P2 = 0xc2b2ae3d27d4eb4fL;
    private static final long P3 = 0x165667b19e3779f9L;
    private static final long P4 = 0x85ebca77c2b2ae63L;
    private static final long P5 = 0x27d4eb2f165667c5L;
    private static final int STRIPE = 32;

    private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);

    private final long seed;
    private final byte[] pending = new byte[STRIPE];
    private long a, b, c, d, total;

    public Xxh64(long seed) {
        this.seed = seed;
        a = seed + P1 + P2;
        b = seed + P2;
        c = seed;
        d = seed - P1;
    }

    public static long of(byte[] data, int length, long seed) {
        Xxh64 hash = new Xxh64(seed);
        hash.update(data, length);
        return hash.value();
    }

    /** Adds the first bytes of data. */
    public void update(byte[] data, int length) {
        int at = 0;
        int held = (int) (total % STRIPE);
        total += length;
        if (held > 0) {
            at = Math.min(STRIPE - held, length);
            System.arraycopy(data, 0, pending, held, at);
            if (held + at < STRIPE) {
                return;
            }
            stripe(pending, 0);
        }
        for (; length - at >= STRIPE; at += STRIPE) {
            stripe(data, at);
        }
        System.arraycopy(data, at, pending, 0, length - at);
    }

    private void stripe(byte[] data, int at) {
        a = round(a, (long) LONG.get(data, at));
        b = round(b, (long) LONG.get(data, at + 8));
        c = round(c, (long) LONG.get(data, at + 16));
        d = round(d, (long) LONG.get(data, at + 24));
    }

    /** The hash of what has come so far. */
    public long value() {
        long h = seed + P5;
        if (total >= STRIPE) {
            h = Long.rotateLeft(a, 1) + Long.rotateLeft(b, 7) + Long.rotateLeft(c, 12) + Long.rotateLeft(d, 18);
            h = merge(merge(merge(merge(h, a), b), c), d);
        }
        h += total;
        int at = 0;
        int held = (int) (total % STRIPE);
        for (; held - at >= 8; at += 8) {
            h = Long.rotateLeft(h ^ round(0, (long) LONG.get(pending, at)), 27) * P1 + P4;
        }
        if (held - at >= 4) {
            h = Long.rotateLeft(h ^ ((int) INT.get(pending, at) & 0xffffffffL) * P1, 23) * P2 + P3;
            at += 4;
        }
        for (; at < held; at++) {
            h = Long.rotateLeft(h ^ (pending[at] & 0xff) * P5, 11) * P1;
        }
        h = (h ^ h >>> 33) * P2;
        h = (h ^ h >>> 29) * P3;
        return h ^ h >>> 32;
    }

    private static long round(long acc, long input) {
        return Long.rotateLeft(acc + input * P2, 31) * P1;
    }

    private static long merge(long h, long acc) {
        return (h ^ round(0, acc)) * P1 + P4;
    }
}
