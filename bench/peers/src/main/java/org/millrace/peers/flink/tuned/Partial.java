package org.millrace.peers.flink.tuned;

import java.io.IOException;
import org.apache.flink.api.common.serialization.SerializerConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** A key and a few numbers, with a text where there is one: what operators send each other, and what results are. */
public final class Partial {
    static final TypeInformation<Partial> TYPE = new Type();

    long key, a, b, c, d;
    String text;

    static Partial of(long key, long a, long b, long c) {
        Partial p = new Partial();
        p.key = key;
        p.a = a;
        p.b = b;
        p.c = c;
        return p;
    }

    private static final class Type extends TypeInformation<Partial> {
        @Override
        public boolean isBasicType() {
            return false;
        }

        @Override
        public boolean isTupleType() {
            return false;
        }

        @Override
        public int getArity() {
            return 1;
        }

        @Override
        public int getTotalFields() {
            return 1;
        }

        @Override
        public Class<Partial> getTypeClass() {
            return Partial.class;
        }

        @Override
        public boolean isKeyType() {
            return false;
        }

        @Override
        public TypeSerializer<Partial> createSerializer(SerializerConfig config) {
            return new Serializer();
        }

        @Override
        public String toString() {
            return "Partial";
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Type;
        }

        @Override
        public int hashCode() {
            return Type.class.hashCode();
        }

        @Override
        public boolean canEqual(Object other) {
            return other instanceof Type;
        }
    }

    /** Four longs, and whether a fifth and a text follow. */
    public static final class Serializer extends TypeSerializerSingleton<Partial> {
        @Override
        public void serialize(Partial p, DataOutputView out) throws IOException {
            out.writeLong(p.key);
            out.writeLong(p.a);
            out.writeLong(p.b);
            out.writeLong(p.c);
            out.writeBoolean(p.text != null);
            if (p.text != null) {
                out.writeLong(p.d);
                out.writeUTF(p.text);
            }
        }

        @Override
        public Partial deserialize(Partial reuse, DataInputView in) throws IOException {
            reuse.key = in.readLong();
            reuse.a = in.readLong();
            reuse.b = in.readLong();
            reuse.c = in.readLong();
            boolean more = in.readBoolean();
            reuse.d = more ? in.readLong() : 0;
            reuse.text = more ? in.readUTF() : null;
            return reuse;
        }

        @Override
        public Partial deserialize(DataInputView in) throws IOException {
            return deserialize(new Partial(), in);
        }

        @Override
        public void copy(DataInputView in, DataOutputView out) throws IOException {
            serialize(deserialize(in), out);
        }

        @Override
        public Partial createInstance() {
            return new Partial();
        }

        @Override
        public Partial copy(Partial from) {
            return copy(from, new Partial());
        }

        @Override
        public Partial copy(Partial from, Partial to) {
            to.key = from.key;
            to.a = from.a;
            to.b = from.b;
            to.c = from.c;
            to.d = from.d;
            to.text = from.text;
            return to;
        }

        @Override
        public boolean isImmutableType() {
            return false;
        }

        @Override
        public int getLength() {
            return -1;
        }

        @Override
        public TypeSerializerSnapshot<Partial> snapshotConfiguration() {
            return new Snapshot();
        }
    }

    /** There has been one form of it. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Partial> {
        public Snapshot() {
            super(Serializer::new);
        }
    }
}
