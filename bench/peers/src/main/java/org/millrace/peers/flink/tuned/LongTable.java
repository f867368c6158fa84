package org.millrace.peers.flink.tuned;

import java.io.Serializable;
import java.util.Arrays;

/** An open-addressing table from a long to a few longs. Entries keep their order of arrival, and none is removed. */
final class LongTable implements Serializable {
    private final int width;
    private int[] slots = new int[64]; // index of an entry + 1, or 0
    private long[] keys = new long[32];
    private long[] values;
    private int size;

    LongTable(int width) {
        this.width = width;
        this.values = new long[32 * width];
    }

    int size() {
        return size;
    }

    long key(int entry) {
        return keys[entry];
    }

    long value(int entry, int field) {
        return values[entry * width + field];
    }

    void set(int entry, int field, long value) {
        values[entry * width + field] = value;
    }

    void add(int entry, int field, long more) {
        values[entry * width + field] += more;
    }

    /** The entry of a key, or -1. */
    int find(long key) {
        int mask = slots.length - 1;
        for (int at = hash(key) & mask; ; at = at + 1 & mask) {
            int entry = slots[at] - 1;
            if (entry < 0 || keys[entry] == key) {
                return entry;
            }
        }
    }

    /** The entry of a key; a new one has zeros. */
    int entry(long key) {
        int mask = slots.length - 1;
        int at = hash(key) & mask;
        for (; slots[at] != 0; at = at + 1 & mask) {
            if (keys[slots[at] - 1] == key) {
                return slots[at] - 1;
            }
        }
        if (size == keys.length) {
            grow();
            return entry(key);
        }
        keys[size] = key;
        slots[at] = ++size;
        return size - 1;
    }

    private void grow() {
        keys = Arrays.copyOf(keys, 2 * size);
        values = Arrays.copyOf(values, 2 * size * width);
        slots = new int[4 * size];
        int mask = slots.length - 1;
        for (int entry = 0; entry < size; entry++) {
            int at = hash(keys[entry]) & mask;
            while (slots[at] != 0) {
                at = at + 1 & mask;
            }
            slots[at] = entry + 1;
        }
    }

    private static int hash(long key) {
        long h = key * 0x9e3779b97f4a7c15L;
        return (int) (h >>> 32);
    }

    void clear() {
        Arrays.fill(slots, 0);
        Arrays.fill(values, 0, size * width, 0);
        size = 0;
    }
}
