package org.millrace.peers.flink.stream;

import java.math.BigDecimal;
import java.time.Instant;
import java.time.ZoneOffset;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple7;

/** Bids of a middle price, with the time of day and the letters c in their extra. */
final class Q14 implements StreamQueries.Query {
    private static final BigDecimal ABOVE = BigDecimal.valueOf(1_000_000);
    private static final BigDecimal BELOW = BigDecimal.valueOf(50_000_000);

    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids()
                .filter(b -> Q1.converted(b.price).compareTo(ABOVE) > 0 && Q1.converted(b.price).compareTo(BELOW) < 0)
                .map(b -> Tuple7.of(b.auction, b.bidder, Q1.converted(b.price), timeOfDay(b.dateTime), b.dateTime, b.extra,
                        count(b.extra, 'c')))
                .returns(Types.TUPLE(Types.LONG, Types.LONG, Types.BIG_DEC, Types.STRING, Types.LONG, Types.STRING,
                        Types.LONG)));
    }

    private static String timeOfDay(long dateTime) {
        int hour = Instant.ofEpochMilli(dateTime).atZone(ZoneOffset.UTC).getHour();
        if (hour >= 8 && hour <= 18) {
            return "dayTime";
        }
        return hour <= 6 || hour >= 20 ? "nightTime" : "otherTime";
    }

    private static long count(String text, char letter) {
        long count = 0;
        for (int i = 0; i < text.length(); i++) {
            if (text.charAt(i) == letter) {
                count++;
            }
        }
        return count;
    }
}
