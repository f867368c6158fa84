package org.millrace.peers.g1;

import org.millrace.peers.rows.RowText;

/** An event as the line by which generators are compared. */
public final class EventLine {
    private EventLine() {}

    public static RowText write(Event e, Channels channels, RowText line) {
        line.clear();
        switch (e.kind) {
            case PERSON -> line.add("P").add(e.id).add(Words.name(e.name)).add(e.email, e.emailLength)
                    .add(e.creditCard, e.creditCard.length).add(Words.city(e.city)).add(Words.state(e.state)).add(e.time);
            case AUCTION -> line.add("A").add(e.id).add(e.itemName, e.itemNameLength)
                    .add(e.description, e.descriptionLength).add(e.initialBid).add(e.reserve).add(e.time).add(e.expires)
                    .add(e.seller).add(e.category);
            case BID -> line.add("B").add(e.auction).add(e.bidder).add(e.price).add(channels.name(e.channel))
                    .add(channels.url(e.channel)).add(e.time);
        }
        return line.add(e.extra, e.extraLength);
    }
}
