package org.millrace.peers.flink.tuned;

import java.math.BigDecimal;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.java.typeutils.GenericTypeInfo;
import org.millrace.peers.flink.TallySink;
import org.millrace.peers.g1.Event;
import org.millrace.peers.rows.RowText;

/** The queries that look at one bid at a time; event time is of no use to them. */
final class Stateless {
    private Stateless() {}

    static void q0(TunedQueries q) {
        TallySink.Format<Event> format = () -> (b, row, tally) -> tally.add(
                extra(b, row.clear().add(b.auction).add(b.bidder).add(b.price).add(b.time)));
        q.result(q.bids(WatermarkStrategy.noWatermarks()), format);
    }

    private static RowText extra(Event b, RowText row) {
        return row.add(b.extra, b.extraLength);
    }

    /** A bid and its price in thousandths, always the same object. */
    private static final class Converted {
        Event bid;
        long price;
    }

    static void q1(TunedQueries q) {
        TallySink.Format<Converted> format = () -> (c, row, tally) -> tally.add(extra(c.bid, row.clear()
                .add(c.bid.auction).add(c.bid.bidder).add(BigDecimal.valueOf(c.price, 3).toPlainString()).add(c.bid.time)));
        q.result(q.bids(WatermarkStrategy.noWatermarks()).map(new Convert())
                .returns(new GenericTypeInfo<>(Converted.class)), format);
    }

    private static final class Convert implements MapFunction<Event, Converted> {
        private transient Converted converted;

        @Override
        public Converted map(Event bid) {
            if (converted == null) {
                converted = new Converted();
            }
            converted.bid = bid;
            converted.price = bid.price * 908;
            return converted;
        }
    }

    static void q2(TunedQueries q) {
        TallySink.Format<Event> format = () -> (b, row, tally) -> tally.add(row.clear().add(b.auction).add(b.price));
        q.result(q.bids(WatermarkStrategy.noWatermarks()).filter(b -> b.auction % 123 == 0), format);
    }
}
