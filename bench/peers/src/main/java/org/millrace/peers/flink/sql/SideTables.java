package org.millrace.peers.flink.sql;

import java.util.Collection;
import java.util.List;
import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.LookupTableSource;
import org.apache.flink.table.connector.source.lookup.LookupFunctionProvider;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.functions.LookupFunction;

/** The bounded table that q13 looks keys up in, held in memory: (key, its text) below ten thousand. */
public final class SideTables implements DynamicTableSourceFactory {
    static final String CONNECTOR = "side";
    private static final int KEYS = 10_000;

    @Override
    public String factoryIdentifier() {
        return CONNECTOR;
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        return new Table();
    }

    private record Table() implements LookupTableSource {
        @Override
        public LookupRuntimeProvider getLookupRuntimeProvider(LookupContext context) {
            return LookupFunctionProvider.of(new Lookup());
        }

        @Override
        public DynamicTableSource copy() {
            return this;
        }

        @Override
        public String asSummaryString() {
            return "side";
        }
    }

    /** A lookup by key. */
    public static final class Lookup extends LookupFunction {
        private static final List<List<RowData>> ROWS = java.util.stream.LongStream.range(0, KEYS)
                .mapToObj(key -> List.<RowData>of(GenericRowData.of(key, StringData.fromString(Long.toString(key)))))
                .toList();

        @Override
        public Collection<RowData> lookup(RowData key) {
            long i = key.getLong(0);
            return i >= 0 && i < KEYS ? ROWS.get((int) i) : List.of();
        }
    }
}
