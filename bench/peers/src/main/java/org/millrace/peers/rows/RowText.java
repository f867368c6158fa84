package org.millrace.peers.rows;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** A row's fields joined by {@code |}, to be built again and again. */
public final class RowText {
    private byte[] bytes = new byte[1024];
    private int length;
    private boolean started;

    /** Begins the next row. */
    public RowText clear() {
        length = 0;
        started = false;
        return this;
    }

    public RowText add(long value) {
        return add(Long.toString(value));
    }

    public RowText add(String text) {
        separate(text.length());
        byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
        System.arraycopy(utf8, 0, room(utf8.length), length, utf8.length);
        length += utf8.length;
        return this;
    }

    public RowText add(byte[] text, int textLength) {
        separate(textLength);
        System.arraycopy(text, 0, room(textLength), length, textLength);
        length += textLength;
        return this;
    }

    /** A field of a result: null is nothing, everything else as its own text. */
    public RowText addObject(Object value) {
        return add(value == null ? "" : value.toString());
    }

    /** Ends a line of several rows. */
    public RowText newline() {
        room(1)[length++] = '\n';
        return this;
    }

    private void separate(int next) {
        room(next + 1);
        if (started) {
            bytes[length++] = '|';
        }
        started = true;
    }

    private byte[] room(int more) {
        if (bytes.length - length < more) {
            bytes = Arrays.copyOf(bytes, Math.max(2 * bytes.length, length + more));
        }
        return bytes;
    }

    /** The text is the first {@link #length} bytes of these. */
    public byte[] bytes() {
        return bytes;
    }

    public int length() {
        return length;
    }

    @Override
    public String toString() {
        return new String(bytes, 0, length, StandardCharsets.UTF_8);
    }
}
