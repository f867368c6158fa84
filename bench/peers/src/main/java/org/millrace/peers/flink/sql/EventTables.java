package org.millrace.peers.flink.sql;

import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.SourceProvider;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.millrace.peers.flink.EventMaker;
import org.millrace.peers.flink.EventSource;
import org.millrace.peers.g1.Settings;

/** Tables of a run's events: connector {@value #CONNECTOR}. */
public final class EventTables implements DynamicTableSourceFactory {
    static final String CONNECTOR = "g1";

    private static final ConfigOption<Long> SEED = ConfigOptions.key("seed").longType().noDefaultValue();
    private static final ConfigOption<Long> RATE = ConfigOptions.key("rate").longType().noDefaultValue();
    private static final ConfigOption<Long> EVENTS = ConfigOptions.key("events").longType().noDefaultValue();
    private static final ConfigOption<Integer> READERS = ConfigOptions.key("readers").intType().noDefaultValue();
    private static final ConfigOption<Long> LINGER = ConfigOptions.key("linger").longType().noDefaultValue();
    private static final ConfigOption<Long> LIMIT = ConfigOptions.key("limit").longType().noDefaultValue();

    @Override
    public String factoryIdentifier() {
        return CONNECTOR;
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(SEED, RATE, EVENTS, READERS, LINGER, LIMIT);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        helper.validate();
        ReadableConfig options = helper.getOptions();
        return new Table(
                new Settings(options.get(SEED), options.get(RATE), options.get(EVENTS)),
                options.get(READERS),
                options.get(LINGER),
                options.get(LIMIT));
    }

    private record Table(Settings settings, int readers, long linger, long limit) implements ScanTableSource {
        @Override
        public ChangelogMode getChangelogMode() {
            return ChangelogMode.insertOnly();
        }

        @Override
        public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
            EventMaker<RowData> maker = (generator, event) -> {
                EventRow row = new EventRow(generator, event);
                return () -> row;
            };
            return SourceProvider.of(new EventSource<>(settings, readers, linger, limit, maker));
        }

        @Override
        public DynamicTableSource copy() {
            return this;
        }

        @Override
        public String asSummaryString() {
            return "events of generator g1";
        }
    }
}
