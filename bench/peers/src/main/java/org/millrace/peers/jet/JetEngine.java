package org.millrace.peers.jet;

import com.hazelcast.config.Config;
import com.hazelcast.config.JoinConfig;
import com.hazelcast.core.Hazelcast;
import com.hazelcast.core.HazelcastInstance;
import com.hazelcast.instance.BuildInfoProvider;
import com.hazelcast.jet.config.JobConfig;
import com.hazelcast.jet.config.ProcessingGuarantee;
import org.millrace.peers.Engine;
import org.millrace.peers.Request;

/** One member in this process, started with the first request: its threads are that request's parallelism. */
public final class JetEngine implements Engine {
    private HazelcastInstance member;
    private int threads;

    @Override
    public void run(Request request) {
        if (member == null || threads != request.parallelism()) {
            close();
            threads = request.parallelism();
            member = Hazelcast.newHazelcastInstance(configuration());
        }
        JobConfig job = new JobConfig().setName(request.query());
        if (request.checkpointInterval() > 0) {
            job.setProcessingGuarantee(ProcessingGuarantee.EXACTLY_ONCE)
                    .setSnapshotIntervalMillis(request.checkpointInterval());
        }
        member.getJet().newJob(JetQueries.build(request), job).join();
    }

    /** A member that is alone, on this machine only. */
    private Config configuration() {
        Config config = new Config();
        config.setClusterName("peers-" + ProcessHandle.current().pid());
        config.setProperty("hazelcast.logging.type", "slf4j");
        config.setProperty("hazelcast.phone.home.enabled", "false");
        config.setProperty("hazelcast.socket.bind.any", "false");
        config.getNetworkConfig().getInterfaces().setEnabled(true).addInterface("127.0.0.1");
        JoinConfig join = config.getNetworkConfig().getJoin();
        join.getAutoDetectionConfig().setEnabled(false);
        join.getMulticastConfig().setEnabled(false);
        config.getJetConfig().setEnabled(true).setCooperativeThreadCount(threads);
        return config;
    }

    @Override
    public String version() {
        return BuildInfoProvider.getBuildInfo().getVersion();
    }

    @Override
    public void close() {
        if (member != null) {
            member.shutdown();
        }
    }
}
