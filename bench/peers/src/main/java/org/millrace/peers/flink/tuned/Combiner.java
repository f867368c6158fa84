package org.millrace.peers.flink.tuned;

import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.BoundedOneInput;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.millrace.peers.g1.Event;

/** Chained to the source: folds events, and sends what it has before a watermark, a barrier or the end passes it. */
abstract class Combiner extends AbstractStreamOperator<Partial>
        implements OneInputStreamOperator<Event, Partial>, BoundedOneInput {
    private transient StreamRecord<Partial> record;

    /** Takes an event, which is another one after this returns. */
    abstract void fold(Event event);

    /** Sends all that is folded and forgets it. */
    abstract void flush();

    final void send(Partial partial) {
        output.collect(record.replace(partial));
    }

    @Override
    public void open() throws Exception {
        super.open();
        record = new StreamRecord<>(null);
    }

    @Override
    public void processElement(StreamRecord<Event> element) {
        fold(element.getValue());
    }

    @Override
    public void processWatermark(Watermark watermark) throws Exception {
        flush();
        super.processWatermark(watermark);
    }

    @Override
    public void prepareSnapshotPreBarrier(long checkpoint) {
        flush();
    }

    @Override
    public void endInput() {
        flush();
    }
}
