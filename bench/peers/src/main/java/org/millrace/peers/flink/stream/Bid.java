package org.millrace.peers.flink.stream;

import org.millrace.peers.g1.Channels;
import org.millrace.peers.g1.Event;

/** A POJO. */
public class Bid {
    public long auction;
    public long bidder;
    public long price;
    public String channel;
    public String url;
    public long dateTime;
    public String extra;

    public Bid() {}

    Bid(Event e, Channels channels) {
        auction = e.auction;
        bidder = e.bidder;
        price = e.price;
        channel = channels.name(e.channel);
        url = channels.url(e.channel);
        dateTime = e.time;
        extra = e.extra();
    }

    /** The same without its text, for queries that only need its numbers. */
    static Bid numbers(Bid b) {
        Bid slim = new Bid();
        slim.auction = b.auction;
        slim.bidder = b.bidder;
        slim.price = b.price;
        slim.dateTime = b.dateTime;
        return slim;
    }
}
