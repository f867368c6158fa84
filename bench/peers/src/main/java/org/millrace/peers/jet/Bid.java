package org.millrace.peers.jet;

import java.io.Serializable;
import org.millrace.peers.g1.Channels;
import org.millrace.peers.g1.Event;

/** A bid. A guest is one at a window's very end, which the result of the window before may take in. */
record Bid(long auction, long bidder, long price, String channel, String url, long dateTime, String extra, boolean guest)
        implements Serializable {
    static Bid of(Event e, Channels channels) {
        return new Bid(e.auction, e.bidder, e.price, channels.name(e.channel), channels.url(e.channel), e.time, e.extra(),
                false);
    }

    Bid asGuest() {
        return new Bid(auction, bidder, price, channel, url, dateTime, extra, true);
    }
}
