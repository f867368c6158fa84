package org.millrace.peers.flink.tuned;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * Behind the exchange: collects partials in its own tables until a watermark tells that they are whole. A snapshot has the
 * tables as partials again; it can be taken up at the same parallelism.
 */
abstract class Collecting extends AbstractStreamOperator<Partial> implements OneInputStreamOperator<Partial, Partial> {
    private transient StreamRecord<Partial> record;
    private transient ListState<Partial> snapshot;

    abstract void collect(Partial partial);

    /** Sends what is whole at that time. */
    abstract void advance(long time);

    /** Gives all that is held, as partials to be collected again. */
    abstract void save(Consumer<Partial> to);

    final void send(Partial partial) {
        output.collect(record.replace(partial));
    }


    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        record = new StreamRecord<>(null);
        snapshot = context.getOperatorStateStore().getListState(
                new ListStateDescriptor<>("partials", new Partial.Serializer()));
        for (Partial partial : snapshot.get()) {
            collect(partial);
        }
        snapshot.clear();
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        snapshot.clear();
        List<Partial> all = new ArrayList<>();
        save(all::add);
        snapshot.update(all);
    }

    @Override
    public void processElement(StreamRecord<Partial> element) {
        collect(element.getValue());
    }

    @Override
    public void processWatermark(Watermark watermark) throws Exception {
        advance(watermark.getTimestamp());
        super.processWatermark(watermark);
    }
}
