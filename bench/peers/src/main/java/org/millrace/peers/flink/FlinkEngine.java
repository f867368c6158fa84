package org.millrace.peers.flink;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.stream.Stream;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.millrace.peers.Engine;
import org.millrace.peers.Request;
import org.millrace.peers.flink.sql.SqlQueries;
import org.millrace.peers.flink.stream.StreamQueries;
import org.millrace.peers.flink.tuned.TunedQueries;

/** Each run is a MiniCluster of its own, in this process. */
public final class FlinkEngine implements Engine {
    @Override
    public void run(Request request) throws Exception {
        Path folder = Files.createDirectories(Path.of(request.folder())).resolve("flink-" + ProcessHandle.current().pid());
        try {
            StreamExecutionEnvironment env =
                    StreamExecutionEnvironment.createLocalEnvironment(request.parallelism(), configuration(request, folder));
            switch (request.form()) {
                case "sql" -> SqlQueries.run(env, request);
                case "stream" -> {
                    StreamQueries.build(env, request);
                    env.execute(request.query());
                }
                case "tuned" -> {
                    TunedQueries.build(env, request);
                    env.execute(request.query());
                }
                default -> throw new IllegalArgumentException("no form " + request.form());
            }
        } finally {
            delete(folder);
        }
    }

    private static Configuration configuration(Request request, Path folder) {
        Configuration c = new Configuration();
        c.setString("minicluster.number-of-taskmanagers", "1");
        c.setString("taskmanager.numberOfTaskSlots", Integer.toString(request.parallelism()));
        c.setString("taskmanager.memory.network.min", "256m");
        c.setString("taskmanager.memory.network.max", "256m");
        c.setString("taskmanager.memory.managed.size", "2g"); // of RocksDB; heap state has the JVM's heap
        c.setString("io.tmp.dirs", folder.resolve("tmp").toString());
        c.setString("rest.port", "0");
        c.setString("pipeline.object-reuse", "true");
        c.setString("execution.runtime-mode", "STREAMING");
        c.setString("restart-strategy.type", "none");
        c.setString("state.backend.type", request.state());
        if (request.checkpointInterval() > 0) {
            c.setString("execution.checkpointing.interval", request.checkpointInterval() + " ms");
            c.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
            c.setString("execution.checkpointing.incremental", "true"); // RocksDB's
            c.setString("execution.checkpointing.storage", "filesystem");
            c.setString("execution.checkpointing.dir", folder.resolve("checkpoints").toUri().toString());
            // A checkpoint that fails under load is no end of the run.
            c.setString("execution.checkpointing.tolerable-failed-checkpoints", "1000000");
        }
        return c;
    }

    /** Removes a folder from which a checkpoint that nobody waits for any more may be disappearing. */
    private static void delete(Path folder) throws IOException {
        while (Files.exists(folder)) {
            try (Stream<Path> all = Files.walk(folder)) {
                for (Path path : all.sorted(Comparator.reverseOrder()).toList()) {
                    Files.deleteIfExists(path);
                }
            } catch (NoSuchFileException | DirectoryNotEmptyException | UncheckedIOException e) {
                Thread.onSpinWait(); // it changed meanwhile: look again
            }
        }
    }

    @Override
    public String version() {
        return EnvironmentInformation.getVersion();
    }
}
