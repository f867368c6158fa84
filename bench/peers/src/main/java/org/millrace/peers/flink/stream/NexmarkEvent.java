package org.millrace.peers.flink.stream;

/** A POJO: one of its fields is set. */
public class NexmarkEvent {
    public Person person;
    public Auction auction;
    public Bid bid;
}
