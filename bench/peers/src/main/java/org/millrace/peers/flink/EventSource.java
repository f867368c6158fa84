package org.millrace.peers.flink;

import java.io.Serializable;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.millrace.peers.Deadline;
import org.millrace.peers.Outcome;
import org.millrace.peers.g1.Cursor;
import org.millrace.peers.g1.Event;
import org.millrace.peers.g1.Generator;
import org.millrace.peers.g1.Settings;

/** The events of a run. Subtask i reads split i; those without one have no events. */
public final class EventSource<T> implements Source<T, EventSource.Split, Long> {
    /** How many events a reader makes before it lets its task look at its mailbox. */
    private static final int BATCH = 64;

    private final Settings settings;
    private final int readers;
    private final long linger, limit;
    private final EventMaker<T> maker;

    /** linger and limit are milliseconds: how long it stays open at its end, and after how long it ends in any case. */
    public EventSource(Settings settings, int readers, long linger, long limit, EventMaker<T> maker) {
        this.settings = settings;
        this.readers = readers;
        this.linger = linger;
        this.limit = limit;
        this.maker = maker;
    }

    /** One reader's share and how far it has come. */
    public record Split(int reader, long block, long next) implements SourceSplit, Serializable {
        @Override
        public String splitId() {
            return Integer.toString(reader);
        }
    }

    @Override
    public Boundedness getBoundedness() {
        return Boundedness.BOUNDED;
    }

    @Override
    public SourceReader<T, Split> createReader(SourceReaderContext context) {
        return new Reader();
    }

    @Override
    public SplitEnumerator<Split, Long> createEnumerator(SplitEnumeratorContext<Split> context) {
        return new Assigner(context, 0);
    }

    @Override
    public SplitEnumerator<Split, Long> restoreEnumerator(SplitEnumeratorContext<Split> context, Long assigned) {
        return new Assigner(context, assigned);
    }

    @Override
    public SimpleVersionedSerializer<Split> getSplitSerializer() {
        return new Longs<>() {
            @Override
            long[] write(Split split) {
                return new long[] {split.reader, split.block, split.next};
            }

            @Override
            Split read(long[] fields) {
                return new Split((int) fields[0], fields[1], fields[2]);
            }
        };
    }

    @Override
    public SimpleVersionedSerializer<Long> getEnumeratorCheckpointSerializer() {
        return new Longs<>() {
            @Override
            long[] write(Long assigned) {
                return new long[] {assigned};
            }

            @Override
            Long read(long[] fields) {
                return fields[0];
            }
        };
    }

    private abstract static class Longs<V> implements SimpleVersionedSerializer<V> {
        abstract long[] write(V value);

        abstract V read(long[] fields);

        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(V value) {
            long[] fields = write(value);
            ByteBuffer bytes = ByteBuffer.allocate(8 * fields.length);
            bytes.asLongBuffer().put(fields);
            return bytes.array();
        }

        @Override
        public V deserialize(int version, byte[] serialized) {
            long[] fields = new long[serialized.length / 8];
            ByteBuffer.wrap(serialized).asLongBuffer().get(fields);
            return read(fields);
        }
    }

    /** Gives each subtask its split, once; its state is the set of those given out, a bit each. */
    private final class Assigner implements SplitEnumerator<Split, Long> {
        private final SplitEnumeratorContext<Split> context;
        private long assigned;

        Assigner(SplitEnumeratorContext<Split> context, long assigned) {
            this.context = context;
            this.assigned = assigned;
        }

        @Override
        public void start() {
            if (readers > context.currentParallelism()) {
                throw new IllegalStateException("more readers than subtasks of the source");
            }
        }

        @Override
        public void addReader(int subtask) {
            if (subtask < readers && (assigned & 1L << subtask) == 0) {
                assigned |= 1L << subtask;
                long[] begin = new Cursor(settings, subtask, readers).position();
                context.assignSplit(new Split(subtask, begin[0], begin[1]), subtask);
            }
            context.signalNoMoreSplits(subtask);
        }

        @Override
        public void addSplitsBack(List<Split> splits, int subtask) {
            assigned &= ~(1L << subtask);
        }

        @Override
        public void handleSplitRequest(int subtask, String host) {}

        @Override
        public Long snapshotState(long checkpoint) {
            return assigned;
        }

        @Override
        public void close() {}
    }

    private final class Reader implements SourceReader<T, Split> {
        private final Generator generator = new Generator(settings);
        private final Event event = new Event();
        private final EventMaker.Form<T> form = maker.open(generator, event);
        private CompletableFuture<Void> available = new CompletableFuture<>();
        private Cursor cursor;
        private final Deadline deadline = new Deadline(limit);
        private boolean complete, ended, lingered;
        private long read;

        @Override
        public void start() {
            Outcome.started();
        }

        @Override
        public InputStatus pollNext(ReaderOutput<T> output) {
            if (cursor == null) {
                return complete ? InputStatus.END_OF_INPUT : InputStatus.NOTHING_AVAILABLE;
            }
            if (ended || deadline.passed()) {
                return end();
            }
            for (int i = 0; i < BATCH; i++) {
                long n = cursor.next();
                if (n < 0) {
                    return end();
                }
                read++;
                generator.fill(n, event);
                T made = form.make();
                if (made != null) {
                    output.collect(made, event.time);
                }
            }
            return InputStatus.MORE_AVAILABLE;
        }

        private InputStatus end() {
            if (!ended) {
                ended = true;
                Outcome.read(read);
            }
            if (linger == 0 || lingered) {
                return InputStatus.END_OF_INPUT;
            }
            lingered = true;
            available = new CompletableFuture<Void>().completeOnTimeout(null, linger, TimeUnit.MILLISECONDS);
            return InputStatus.NOTHING_AVAILABLE;
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            return available;
        }

        @Override
        public void addSplits(List<Split> splits) {
            for (Split split : splits) {
                cursor = new Cursor(settings, split.reader, readers);
                cursor.restore(new long[] {split.block, split.next});
            }
            available.complete(null);
        }

        @Override
        public void notifyNoMoreSplits() {
            complete = true;
            available.complete(null);
        }

        @Override
        public List<Split> snapshotState(long checkpoint) {
            if (cursor == null) {
                return List.of();
            }
            long[] position = cursor.position();
            return List.of(new Split(cursor.reader(), position[0], position[1]));
        }

        @Override
        public void notifyCheckpointComplete(long checkpoint) {
            if (cursor != null && cursor.reader() == 0) {
                Outcome.checkpointed();
            }
        }

        @Override
        public void close() {}
    }
}
