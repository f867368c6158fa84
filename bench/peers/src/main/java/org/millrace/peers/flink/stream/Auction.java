package org.millrace.peers.flink.stream;

import org.millrace.peers.g1.Event;

/** A POJO. */
public class Auction {
    public long id;
    public String itemName;
    public String description;
    public long initialBid;
    public long reserve;
    public long dateTime;
    public long expires;
    public long seller;
    public long category;
    public String extra;

    public Auction() {}

    Auction(Event e) {
        id = e.id;
        itemName = e.itemName();
        description = e.description();
        initialBid = e.initialBid;
        reserve = e.reserve;
        dateTime = e.time;
        expires = e.expires;
        seller = e.seller;
        category = e.category;
        extra = e.extra();
    }

    /** The same without its text, for queries that only need its numbers. */
    static Auction numbers(Auction a) {
        Auction slim = new Auction();
        slim.id = a.id;
        slim.initialBid = a.initialBid;
        slim.reserve = a.reserve;
        slim.dateTime = a.dateTime;
        slim.expires = a.expires;
        slim.seller = a.seller;
        slim.category = a.category;
        return slim;
    }
}
