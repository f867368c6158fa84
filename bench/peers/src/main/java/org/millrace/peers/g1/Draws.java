package org.millrace.peers.g1;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/** The draws of an event's state, and the text made of them. */
final class Draws {
    static final long G = 0x9e3779b97f4a7c15L;

    /** What {@link #text} may write behind the text. */
    static final int SLACK = 12;

    private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);

    private Draws() {}

    static long mix(long x) {
        x = (x ^ x >>> 30) * 0xbf58476d1ce4e5b9L;
        x = (x ^ x >>> 27) * 0x94d049bb133111ebL;
        return x ^ x >>> 31;
    }

    static long draw(long state, int k) {
        return mix(state + (k + 1) * G);
    }

    static int below(long draw, int m) {
        return (int) (draw >>> 33) % m;
    }

    static long price(long draw) {
        return 100 * ((1 << 20) + (draw & 0xfffff)) >> 20 - below(draw, 20);
    }

    /**
     * Writes length letters at the buffer's offset, and up to {@link #SLACK} bytes of no meaning behind them. A draw holds
     * twelve letters of five bits; eight of them are spread over the bytes of a long, and all eight taken mod 26, at once.
     */
    static void text(long state, int k, byte[] buffer, int offset, int length) {
        long at = state + (k + 1) * G;
        for (int i = 0; i < length; i += 12, at += G) {
            long d = mix(at);
            LONG.set(buffer, offset + i, letters(spread(d & 0xffffffffffL)));
            INT.set(buffer, offset + i + 8, (int) letters(spread(d >>> 40 & 0xfffff)));
        }
    }

    /** Eight groups of five bits, each in a byte of its own. */
    private static long spread(long x) {
        x = x & 0xfffffL | (x & 0xfffff00000L) << 12;
        x = x & 0x000003ff000003ffL | (x & 0x000ffc00000ffc00L) << 6;
        return x & 0x001f001f001f001fL | (x & 0x03e003e003e003e0L) << 3;
    }

    /** 'a' + (v mod 26) of eight values below 32: those that reach bit 5 with 6 more are 26 or above. */
    private static long letters(long v) {
        long above = v + 0x0606060606060606L >>> 5 & 0x0101010101010101L;
        return v + 0x6161616161616161L - above * 26;
    }

    /** Writes 3 to max-1 letters as {@link #text} does, and returns how many. */
    static int word(long state, int k, int max, byte[] buffer, int offset) {
        int length = 3 + below(draw(state, k), max - 3);
        text(state, k + 1, buffer, offset, length);
        return length;
    }
}
