package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** Each bid with its bidder and each auction that the bidder sells. */
final class Q23 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(events.all()
                        .keyBy(e -> e.person != null ? e.person.id : e.auction != null ? e.auction.seller : e.bid.bidder)
                        .process(new Join())
                        .returns(Types.TUPLE(TypeInformation.of(Bid.class), TypeInformation.of(Person.class),
                                TypeInformation.of(Auction.class))),
                (joined, row) -> {
                    Bid b = joined.f0;
                    Person p = joined.f1;
                    row.add(b.bidder).add(b.price).add(b.channel).add(b.url).add(b.extra);
                    row.add(p.id).add(p.name).add(p.emailAddress).add(p.creditCard).add(p.city).add(p.state).add(p.extra);
                    Q20.auction(joined.f2, row).add(joined.f2.extra);
                });
    }

    private static final class Join extends KeyedProcessFunction<Long, NexmarkEvent, Tuple3<Bid, Person, Auction>> {
        private transient ValueState<Person> person;
        private transient ListState<Auction> auctions;
        private transient ListState<Bid> bids;

        @Override
        public void open(OpenContext context) {
            person = getRuntimeContext().getState(new ValueStateDescriptor<>("person", Person.class));
            auctions = getRuntimeContext().getListState(new ListStateDescriptor<>("auctions", Auction.class));
            bids = getRuntimeContext().getListState(new ListStateDescriptor<>("bids", Bid.class));
        }

        @Override
        public void processElement(NexmarkEvent e, Context context, Collector<Tuple3<Bid, Person, Auction>> out)
                throws Exception {
            Person p = person.value();
            if (e.person != null) {
                person.update(e.person);
                for (Auction a : auctions.get()) {
                    for (Bid b : bids.get()) {
                        out.collect(Tuple3.of(b, e.person, a));
                    }
                }
            } else if (e.auction != null) {
                auctions.add(e.auction);
                if (p != null) {
                    for (Bid b : bids.get()) {
                        out.collect(Tuple3.of(b, p, e.auction));
                    }
                }
            } else {
                bids.add(e.bid);
                if (p != null) {
                    for (Auction a : auctions.get()) {
                        out.collect(Tuple3.of(e.bid, p, a));
                    }
                }
            }
        }
    }
}
