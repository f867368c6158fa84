package org.millrace.peers.flink.stream;

import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.api.common.typeinfo.TypeInformation;

/** Bids into files by their day and minute. */
final class Q10 implements StreamQueries.Query {
    private static final DateTimeFormatter DAY = DateTimeFormatter.ofPattern("yyyy-MM-dd").withZone(ZoneOffset.UTC);
    private static final DateTimeFormatter MINUTE = DateTimeFormatter.ofPattern("HH:mm").withZone(ZoneOffset.UTC);

    @Override
    public void build(Events events, Output out) {
        out.files(events.bids()
                        .map(b -> Tuple3.of(b, day(b), minute(b)))
                        .returns(Types.TUPLE(TypeInformation.of(Bid.class), Types.STRING, Types.STRING)),
                b -> "dt=" + b.f1 + "/hm=" + b.f2,
                (b, row) -> row.add(b.f0.auction).add(b.f0.bidder).add(b.f0.price).add(b.f0.dateTime).add(b.f0.extra)
                        .add(b.f1).add(b.f2));
    }

    static String day(Bid b) {
        return DAY.format(Instant.ofEpochMilli(b.dateTime));
    }

    static String minute(Bid b) {
        return MINUTE.format(Instant.ofEpochMilli(b.dateTime));
    }
}
