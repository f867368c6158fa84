package org.millrace.peers.jet;

import com.hazelcast.function.SupplierEx;
import com.hazelcast.jet.core.AbstractProcessor;
import com.hazelcast.jet.core.BroadcastKey;
import com.hazelcast.jet.core.EventTimePolicy;
import com.hazelcast.jet.core.ProcessorMetaSupplier;
import com.hazelcast.jet.core.Watermark;
import com.hazelcast.jet.core.function.ObjLongBiFunction;
import com.hazelcast.jet.pipeline.Sources;
import com.hazelcast.jet.pipeline.StreamSource;
import java.io.Serializable;
import org.millrace.peers.Deadline;
import org.millrace.peers.Outcome;
import org.millrace.peers.Request;
import org.millrace.peers.g1.Cursor;
import org.millrace.peers.g1.Event;
import org.millrace.peers.g1.Generator;
import org.millrace.peers.g1.Settings;

/** A source's processor: one reader's events, with the watermark four seconds behind them. */
final class EventReader<T> extends AbstractProcessor {
    private static final long LAG = 4000;

    /** How many events a reader makes before it lets others have its thread. */
    private static final int BATCH = 256;

    private final Settings settings;
    private final Maker<T> maker;
    private final ObjLongBiFunction<? super T, ?> wrap;
    private final long frame;
    private final Deadline deadline;
    private final Event event = new Event();
    private long read;
    private Generator generator;
    private Cursor cursor;
    private long watermark = Long.MIN_VALUE;
    /** What is to be emitted, in this order; an outbox that refuses one must be offered that one again. */
    private Object first, second, third;

    /** Makes a record of an event, or null where it has none. */
    @FunctionalInterface
    interface Maker<T> extends Serializable {
        T make(Generator generator, Event event);

        /** The same record for the window that ends with it, or null. */
        default T guest(T made, Event event) {
            return null;
        }
    }

    private EventReader(Settings settings, long limit, Maker<T> maker, EventTimePolicy<? super T> policy) {
        this.settings = settings;
        this.deadline = new Deadline(limit);
        this.maker = maker;
        this.wrap = policy.wrapFn();
        this.frame = policy.watermarkThrottlingFrameSize();
    }

    /** The records of a run; those whose time nobody asks for come without. */
    static <T> StreamSource<T> source(Request request, Maker<T> maker) {
        Settings settings = request.settings();
        int readers = request.parallelism();
        long limit = request.limit();
        return Sources.streamFromProcessorWithWatermarks("nexmark", true, policy -> {
            SupplierEx<EventReader<T>> supplier = () -> new EventReader<>(settings, limit, maker, policy);
            return ProcessorMetaSupplier.of(readers, supplier::get);
        });
    }

    @Override
    protected void init(Context context) {
        generator = new Generator(settings);
        cursor = new Cursor(settings, context.globalProcessorIndex(), context.totalParallelism());
        Outcome.started();
    }

    @Override
    public boolean complete() {
        for (int i = 0; i < BATCH; i++) {
            if (!flush()) {
                return false;
            }
            long n = i == 0 && deadline.passed() ? -1 : cursor.next();
            if (n < 0) {
                Outcome.read(read);
                return true;
            }
            read++;
            generator.fill(n, event);
            T made = maker.make(generator, event);
            if (made == null) {
                continue;
            }
            if (frame > 0) {
                long behind = event.time - LAG;
                long next = behind - Math.floorMod(behind, frame);
                if (next > watermark) {
                    first = new Watermark(next);
                    watermark = next;
                }
            }
            second = wrap.apply(made, event.time);
            T guest = maker.guest(made, event);
            if (guest != null) {
                third = wrap.apply(guest, event.time - 1);
            }
        }
        flush();
        return false;
    }

    private boolean flush() {
        if (first != null) {
            if (!tryEmit(first)) {
                return false;
            }
            first = null;
        }
        if (second != null) {
            if (!tryEmit(second)) {
                return false;
            }
            second = null;
        }
        if (third != null) {
            if (!tryEmit(third)) {
                return false;
            }
            third = null;
        }
        return true;
    }

    @Override
    public boolean saveToSnapshot() {
        return flush() && tryEmitToSnapshot(BroadcastKey.broadcastKey(cursor.reader()), cursor.position());
    }

    @Override
    protected void restoreFromSnapshot(Object key, Object position) {
        if (((BroadcastKey<?>) key).key().equals(cursor.reader())) {
            cursor.restore((long[]) position);
        }
    }

    @Override
    public boolean snapshotCommitFinish(boolean success) {
        if (success && cursor.reader() == 0) {
            Outcome.checkpointed();
        }
        return true;
    }
}
