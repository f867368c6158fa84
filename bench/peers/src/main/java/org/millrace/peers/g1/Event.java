package org.millrace.peers.g1;

import java.nio.charset.StandardCharsets;

/**
 * One event, to be filled again and again. Which fields hold something depends on its kind. Text is Latin letters, one byte
 * each; what stands in few values (names, cities, states, channels, URLs) is an index into {@link Words} or {@link Channels}.
 */
public final class Event {
    public enum Kind { PERSON, AUCTION, BID }

    public long number;
    public Kind kind;
    public long time;

    /** Of a person or an auction. */
    public long id;

    /** Of a person: indexes into {@link Words}. */
    public int name, city, state;
    public final byte[] email = new byte[16 + Draws.SLACK];
    public int emailLength;
    public final byte[] creditCard = new byte[19];

    /** Of an auction. */
    public long initialBid, reserve, expires, seller, category;
    public final byte[] itemName = new byte[20 + Draws.SLACK];
    public int itemNameLength;
    public final byte[] description = new byte[100 + Draws.SLACK];
    public int descriptionLength;

    /** Of a bid; channel is an index into {@link Channels}, for its URL too. */
    public long auction, bidder, price;
    public int channel;

    /** Of each kind. */
    public final byte[] extra = new byte[500 + Draws.SLACK];
    public int extraLength;

    public String email() {
        return string(email, emailLength);
    }

    public String creditCard() {
        return string(creditCard, creditCard.length);
    }

    public String itemName() {
        return string(itemName, itemNameLength);
    }

    public String description() {
        return string(description, descriptionLength);
    }

    public String extra() {
        return string(extra, extraLength);
    }

    private static String string(byte[] bytes, int length) {
        return new String(bytes, 0, length, StandardCharsets.ISO_8859_1);
    }
}
