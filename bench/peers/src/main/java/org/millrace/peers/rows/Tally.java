package org.millrace.peers.rows;

/** The count of rows and the sums of their hashes; of use to one thread. */
public final class Tally {
    private long count, sum0, sum1;

    public void add(RowText row) {
        count++;
        sum0 += Xxh64.of(row.bytes(), row.length(), 0);
        sum1 += Xxh64.of(row.bytes(), row.length(), 1);
    }

    public void retract(RowText row) {
        count--;
        sum0 -= Xxh64.of(row.bytes(), row.length(), 0);
        sum1 -= Xxh64.of(row.bytes(), row.length(), 1);
    }

    public void add(Tally other) {
        count += other.count;
        sum0 += other.sum0;
        sum1 += other.sum1;
    }

    public long count() {
        return count;
    }

    /** {@code count sum0 sum1}, as the sums of runs are written. */
    @Override
    public String toString() {
        return "%d %016x %016x".formatted(count, sum0, sum1);
    }
}
