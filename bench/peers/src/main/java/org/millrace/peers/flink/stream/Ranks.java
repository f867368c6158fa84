package org.millrace.peers.flink.stream;

import org.millrace.peers.rows.RowText;

/** A POJO: a number of bids (or bidders, auctions), and that of each of three ranks of price. */
public class Ranks {
    public long total;
    public long low;
    public long middle;
    public long high;

    /** One more of a bid's rank. */
    void add(long price) {
        total++;
        addRank(rank(price));
    }

    /** One that is in the ranks of after, a bit each, and until now was in those of before. */
    void addDistinct(int before, int after) {
        if (before == 0) {
            total++;
        }
        for (int rank = 0; rank < 3; rank++) {
            if ((after & ~before & 1 << rank) != 0) {
                addRank(rank);
            }
        }
    }

    private void addRank(int rank) {
        switch (rank) {
            case 0 -> low++;
            case 1 -> middle++;
            default -> high++;
        }
    }

    static int rank(long price) {
        return price < 10_000 ? 0 : price < 1_000_000 ? 1 : 2;
    }

    Ranks copy() {
        Ranks copy = new Ranks();
        copy.total = total;
        copy.low = low;
        copy.middle = middle;
        copy.high = high;
        return copy;
    }

    RowText write(RowText row) {
        return row.add(total).add(low).add(middle).add(high);
    }
}
