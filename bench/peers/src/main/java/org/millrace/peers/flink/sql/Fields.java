package org.millrace.peers.flink.sql;

import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.MapData;
import org.apache.flink.table.data.RawValueData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.types.RowKind;
import org.apache.flink.types.variant.Variant;

/**
 * A row that reads its fields where the generator left them, so that a field which a query does not look at costs nothing,
 * and a number is never boxed. Each has the fields of its kind of event only.
 */
abstract class Fields implements RowData {
    private final int arity;

    Fields(int arity) {
        this.arity = arity;
    }

    static StringData text(byte[] bytes, int length) {
        byte[] copy = new byte[length];
        System.arraycopy(bytes, 0, copy, 0, length);
        return BinaryStringData.fromBytes(copy);
    }

    static StringData[] texts(String... all) {
        StringData[] texts = new StringData[all.length];
        for (int i = 0; i < all.length; i++) {
            texts[i] = text(all[i].getBytes(java.nio.charset.StandardCharsets.UTF_8), all[i].length());
        }
        return texts;
    }

    private static UnsupportedOperationException none(int field) {
        return new UnsupportedOperationException("no field of that type at " + field);
    }

    @Override
    public int getArity() {
        return arity;
    }

    @Override
    public RowKind getRowKind() {
        return RowKind.INSERT;
    }

    @Override
    public void setRowKind(RowKind kind) {
        if (kind != RowKind.INSERT) {
            throw new UnsupportedOperationException("an event is never " + kind);
        }
    }

    @Override
    public boolean isNullAt(int field) {
        return false;
    }

    @Override
    public boolean getBoolean(int field) {
        throw none(field);
    }

    @Override
    public byte getByte(int field) {
        throw none(field);
    }

    @Override
    public short getShort(int field) {
        throw none(field);
    }

    @Override
    public int getInt(int field) {
        throw none(field);
    }

    @Override
    public long getLong(int field) {
        throw none(field);
    }

    @Override
    public float getFloat(int field) {
        throw none(field);
    }

    @Override
    public double getDouble(int field) {
        throw none(field);
    }

    @Override
    public StringData getString(int field) {
        throw none(field);
    }

    @Override
    public DecimalData getDecimal(int field, int precision, int scale) {
        throw none(field);
    }

    @Override
    public TimestampData getTimestamp(int field, int precision) {
        throw none(field);
    }

    @Override
    public <T> RawValueData<T> getRawValue(int field) {
        throw none(field);
    }

    @Override
    public byte[] getBinary(int field) {
        throw none(field);
    }

    @Override
    public ArrayData getArray(int field) {
        throw none(field);
    }

    @Override
    public MapData getMap(int field) {
        throw none(field);
    }

    @Override
    public RowData getRow(int field, int arity) {
        throw none(field);
    }

    @Override
    public Variant getVariant(int field) {
        throw none(field);
    }
}
