package org.millrace.peers.flink.stream;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.streaming.api.functions.co.KeyedCoProcessFunction;
import org.apache.flink.util.Collector;

/** Who sells in category 10 and lives in one of three states. */
final class Q3 implements StreamQueries.Query {
    @Override
    public void build(Events events, Output out) {
        out.rows(events.auctions().filter(a -> a.category == 10).keyBy(a -> a.seller)
                .connect(events.persons()
                        .filter(p -> p.state.equals("OR") || p.state.equals("ID") || p.state.equals("CA"))
                        .keyBy(p -> p.id))
                .process(new Sellers())
                .returns(Types.TUPLE(Types.STRING, Types.STRING, Types.STRING, Types.LONG)));
    }

    private static final class Sellers
            extends KeyedCoProcessFunction<Long, Auction, Person, Tuple4<String, String, String, Long>> {
        private transient ValueState<Person> seller;
        private transient ListState<Long> waiting;

        @Override
        public void open(OpenContext context) {
            seller = getRuntimeContext().getState(new ValueStateDescriptor<>("seller", Person.class));
            waiting = getRuntimeContext().getListState(new ListStateDescriptor<>("waiting", Long.class));
        }

        @Override
        public void processElement1(Auction a, Context context, Collector<Tuple4<String, String, String, Long>> out)
                throws Exception {
            Person p = seller.value();
            if (p == null) {
                waiting.add(a.id);
            } else {
                out.collect(Tuple4.of(p.name, p.city, p.state, a.id));
            }
        }

        @Override
        public void processElement2(Person p, Context context, Collector<Tuple4<String, String, String, Long>> out)
                throws Exception {
            seller.update(p);
            for (long id : waiting.get()) {
                out.collect(Tuple4.of(p.name, p.city, p.state, id));
            }
            waiting.clear();
        }
    }
}
