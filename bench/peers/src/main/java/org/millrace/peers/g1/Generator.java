package org.millrace.peers.g1;

import static org.millrace.peers.g1.Draws.below;
import static org.millrace.peers.g1.Draws.draw;
import static org.millrace.peers.g1.Draws.price;

import org.millrace.peers.g1.Event.Kind;

/** Fills events. It is cheapest when asked for consecutive ones; of use to one thread. */
public final class Generator {
    private static final long FIRST_ID = 1000;
    private static final int HOT = 100;
    private static final int ACTIVE_PEOPLE = 1000;

    private final Settings settings;
    private final Channels channels;
    // The time of event next: whole milliseconds, and how many of rate's parts of one are over. Stepping them is an
    // addition where the formula is a division.
    private long next = -1, millis, parts;

    public Generator(Settings settings) {
        this.settings = settings;
        this.channels = Channels.of(settings.seed());
    }

    public Settings settings() {
        return settings;
    }

    public Channels channels() {
        return channels;
    }

    /** Makes e event n. */
    public void fill(long n, Event e) {
        long state = Draws.mix(settings.seed() + (n + 1) * Draws.G);
        long group = n / 50;
        int offset = (int) (n - group * 50);
        e.number = n;
        e.time = time(n);
        if (offset >= 4) {
            bid(state, group, e);
        } else if (offset > 0) {
            auction(state, group, 3 * group + offset - 1, e);
        } else {
            person(state, group, e);
        }
    }

    private long time(long n) {
        long rate = settings.rate();
        if (n != next) {
            millis = n * 1000 / rate;
            parts = n * 1000 - millis * rate;
        }
        long time = Settings.BASE + millis;
        next = n + 1;
        parts += 1000;
        if (parts >= rate) {
            long more = rate <= 1000 ? parts / rate : 1;
            millis += more;
            parts -= more * rate;
        }
        return time;
    }

    private static void person(long state, long newest, Event e) {
        e.kind = Kind.PERSON;
        e.id = FIRST_ID + newest;
        e.name = below(draw(state, 0), Words.FIRSTS) * Words.LASTS + below(draw(state, 1), Words.LASTS);
        int length = Draws.word(state, 100, 7, e.email, 0);
        e.email[length++] = '@';
        length += Draws.word(state, 110, 5, e.email, length);
        e.email[length++] = '.';
        e.email[length++] = 'c';
        e.email[length++] = 'o';
        e.email[length++] = 'm';
        e.emailLength = length;
        for (int i = 0; i < 4; i++) {
            int digits = below(draw(state, 2 + i), 10_000);
            for (int j = 3; j >= 0; j--, digits /= 10) {
                e.creditCard[5 * i + j] = (byte) ('0' + digits % 10);
            }
            if (i < 3) {
                e.creditCard[5 * i + 4] = ' ';
            }
        }
        e.city = below(draw(state, 6), 10);
        e.state = below(draw(state, 7), 6);
        e.extraLength = 60 + below(draw(state, 8), 80);
        Draws.text(state, 120, e.extra, 0, e.extraLength);
    }

    private void auction(long state, long newestPerson, long index, Event e) {
        e.kind = Kind.AUCTION;
        e.id = FIRST_ID + index;
        e.itemNameLength = Draws.word(state, 100, 20, e.itemName, 0);
        e.descriptionLength = Draws.word(state, 110, 100, e.description, 0);
        e.initialBid = price(draw(state, 0));
        e.reserve = e.initialBid + price(draw(state, 1));
        long horizon = settings.time(e.number + 1666) - e.time;
        e.expires = e.time + 1 + below(draw(state, 2), (int) Math.max(2 * horizon, 1));
        e.seller = FIRST_ID + (below(draw(state, 3), 4) > 0
                ? newestPerson / HOT * HOT
                : somePerson(newestPerson, draw(state, 4)));
        e.category = 10 + below(draw(state, 5), 5);
        e.extraLength = 300 + below(draw(state, 6), 200);
        Draws.text(state, 120, e.extra, 0, e.extraLength);
    }

    private static void bid(long state, long newestPerson, Event e) {
        e.kind = Kind.BID;
        long newest = 3 * newestPerson + 2;
        long auction;
        if (below(draw(state, 0), 2) > 0) {
            auction = newest / HOT * HOT;
        } else if (newest >= HOT) {
            auction = newest - HOT + below(draw(state, 1), HOT + 11);
        } else {
            auction = below(draw(state, 1), (int) newest + 11);
        }
        e.auction = FIRST_ID + auction;
        e.bidder = FIRST_ID + (below(draw(state, 2), 4) > 0
                ? newestPerson / HOT * HOT + 1
                : somePerson(newestPerson, draw(state, 3)));
        e.price = price(draw(state, 4));
        e.channel = below(draw(state, 5), 2) > 0
                ? Channels.hot(below(draw(state, 6), 4))
                : Channels.cold(below(draw(state, 6), 10_000));
        e.extraLength = 54 + below(draw(state, 7), 28);
        Draws.text(state, 120, e.extra, 0, e.extraLength);
    }

    private static long somePerson(long newest, long draw) {
        if (newest + 1 >= ACTIVE_PEOPLE) {
            return newest + 1 - ACTIVE_PEOPLE + below(draw, ACTIVE_PEOPLE + 10);
        }
        return below(draw, (int) newest + 1 + 10);
    }
}
