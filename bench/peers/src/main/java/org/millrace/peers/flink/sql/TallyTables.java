package org.millrace.peers.flink.sql;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.logical.LogicalType;
import org.millrace.peers.flink.TallySink;
import org.millrace.peers.rows.RowText;
import org.millrace.peers.rows.Tally;

/** Tables that tally what is written to them, each change with its sign: connector {@value #CONNECTOR}. */
public final class TallyTables implements DynamicTableSinkFactory {
    static final String CONNECTOR = "tally";

    /** Sums the second column by the first, and tallies that; the other columns are left out. */
    static final ConfigOption<Boolean> SUMMED = ConfigOptions.key("summed").booleanType().defaultValue(false);

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
        return Set.of(SUMMED);
    }

    @Override
    public DynamicTableSink createDynamicTableSink(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        helper.validate();
        return new Table(
                List.copyOf(context.getPhysicalRowDataType().getLogicalType().getChildren()),
                helper.getOptions().get(SUMMED));
    }

    private record Table(List<LogicalType> columns, boolean summed) implements DynamicTableSink {
        @Override
        public ChangelogMode getChangelogMode(ChangelogMode requested) {
            return ChangelogMode.all();
        }

        @Override
        public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
            List<LogicalType> types = columns;
            TallySink.Format<RowData> format = summed ? Summed::new : () -> new Rows(types);
            return SinkV2Provider.of(new TallySink<>(format));
        }

        @Override
        public DynamicTableSink copy() {
            return this;
        }

        @Override
        public String asSummaryString() {
            return "tally";
        }
    }

    private static final class Rows implements TallySink.Change<RowData> {
        private final RowData.FieldGetter[] fields;

        Rows(List<LogicalType> types) {
            fields = new RowData.FieldGetter[types.size()];
            for (int i = 0; i < fields.length; i++) {
                fields[i] = RowData.createFieldGetter(types.get(i), i);
            }
        }

        @Override
        public void apply(RowData record, RowText row, Tally tally) {
            row.clear();
            for (RowData.FieldGetter field : fields) {
                Object value = field.getFieldOrNull(record);
                if (value instanceof Long number) {
                    row.add(number);
                } else if (value instanceof StringData text) {
                    byte[] bytes = text.toBytes();
                    row.add(bytes, bytes.length);
                } else if (value instanceof TimestampData time) {
                    row.add(time.getMillisecond());
                } else if (value instanceof DecimalData decimal) {
                    row.add(decimal.toBigDecimal().toPlainString());
                } else {
                    row.addObject(value);
                }
            }
            switch (record.getRowKind()) {
                case INSERT, UPDATE_AFTER -> tally.add(row);
                case DELETE, UPDATE_BEFORE -> tally.retract(row);
            }
        }
    }

    private static final class Summed implements TallySink.Change<RowData> {
        private final Map<Long, Long> sums = new HashMap<>();

        @Override
        public void apply(RowData record, RowText row, Tally tally) {
            sums.merge(record.getLong(0), record.getLong(1), Long::sum);
        }

        @Override
        public Map<Long, Long> sums() {
            return sums;
        }
    }
}
