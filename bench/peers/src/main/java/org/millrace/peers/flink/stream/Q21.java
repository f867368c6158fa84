package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple5;

/** Bids with the id of their channel. */
final class Q21 implements StreamQueries.Query {
    private static final String PARAMETER = "&channel_id=";

    @Override
    public void build(Events events, Output out) {
        out.rows(events.bids()
                .map(b -> Tuple5.of(b.auction, b.bidder, b.price, b.channel, channelId(b)))
                .returns(Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.STRING, Types.STRING))
                .filter(b -> b.f4 != null));
    }

    private static String channelId(Bid b) {
        switch (b.channel.toLowerCase()) {
            case "apple":
                return "0";
            case "google":
                return "1";
            case "facebook":
                return "2";
            case "baidu":
                return "3";
            default:
                int at = b.url.indexOf(PARAMETER);
                if (at < 0) {
                    return null;
                }
                int end = b.url.indexOf('&', at + PARAMETER.length());
                return b.url.substring(at + PARAMETER.length(), end < 0 ? b.url.length() : end);
        }
    }
}
