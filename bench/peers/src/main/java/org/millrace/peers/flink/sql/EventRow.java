package org.millrace.peers.flink.sql;

import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.millrace.peers.g1.Channels;
import org.millrace.peers.g1.Event;
import org.millrace.peers.g1.Event.Kind;
import org.millrace.peers.g1.Generator;
import org.millrace.peers.g1.Words;

/** The row of the table of events: its kind, the rows of a person, an auction and a bid, of which one is set, and its number. */
final class EventRow extends Fields {
    private final Event event;
    private final RowData[] kinds;

    EventRow(Generator generator, Event event) {
        super(2 + Kind.values().length);
        this.event = event;
        this.kinds = new RowData[] {new Person(event), new Auction(event), new Bid(event, generator.channels())};
    }

    @Override
    public boolean isNullAt(int field) {
        return field > 0 && field <= kinds.length && event.kind.ordinal() != field - 1;
    }

    @Override
    public long getLong(int field) {
        return event.number;
    }

    @Override
    public int getInt(int field) {
        return event.kind.ordinal();
    }

    @Override
    public RowData getRow(int field, int arity) {
        return kinds[field - 1];
    }

    private static final class Person extends Fields {
        private static final StringData[] NAMES = texts(Words.allNames());
        private static final StringData[] CITIES = texts(Words.allCities());
        private static final StringData[] STATES = texts(Words.allStates());

        private final Event event;

        Person(Event event) {
            super(8);
            this.event = event;
        }

        @Override
        public long getLong(int field) {
            return event.id;
        }

        @Override
        public StringData getString(int field) {
            return switch (field) {
                case 1 -> NAMES[event.name];
                case 2 -> text(event.email, event.emailLength);
                case 3 -> text(event.creditCard, event.creditCard.length);
                case 4 -> CITIES[event.city];
                case 5 -> STATES[event.state];
                default -> text(event.extra, event.extraLength);
            };
        }

        @Override
        public TimestampData getTimestamp(int field, int precision) {
            return TimestampData.fromEpochMillis(event.time);
        }
    }

    private static final class Auction extends Fields {
        private final Event event;

        Auction(Event event) {
            super(10);
            this.event = event;
        }

        @Override
        public long getLong(int field) {
            return switch (field) {
                case 0 -> event.id;
                case 3 -> event.initialBid;
                case 4 -> event.reserve;
                case 7 -> event.seller;
                default -> event.category;
            };
        }

        @Override
        public StringData getString(int field) {
            return switch (field) {
                case 1 -> text(event.itemName, event.itemNameLength);
                case 2 -> text(event.description, event.descriptionLength);
                default -> text(event.extra, event.extraLength);
            };
        }

        @Override
        public TimestampData getTimestamp(int field, int precision) {
            return TimestampData.fromEpochMillis(field == 5 ? event.time : event.expires);
        }
    }

    private static final class Bid extends Fields {
        private final Event event;
        private final StringData[] names, urls;

        Bid(Event event, Channels channels) {
            super(7);
            this.event = event;
            String[] allNames = new String[channels.size()], allUrls = new String[channels.size()];
            for (int i = 0; i < channels.size(); i++) {
                allNames[i] = channels.name(i);
                allUrls[i] = channels.url(i);
            }
            this.names = texts(allNames);
            this.urls = texts(allUrls);
        }

        @Override
        public long getLong(int field) {
            return switch (field) {
                case 0 -> event.auction;
                case 1 -> event.bidder;
                default -> event.price;
            };
        }

        @Override
        public StringData getString(int field) {
            return switch (field) {
                case 3 -> names[event.channel];
                case 4 -> urls[event.channel];
                default -> text(event.extra, event.extraLength);
            };
        }

        @Override
        public TimestampData getTimestamp(int field, int precision) {
            return TimestampData.fromEpochMillis(event.time);
        }
    }
}
