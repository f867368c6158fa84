package org.millrace.peers;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.HashMap;
import java.util.Map;
import org.millrace.peers.rows.RowText;
import org.millrace.peers.rows.Tally;

/**
 * What the run in progress has come to. One run at a time goes on in a process, in whatever threads its engine has, so the
 * tasks reach it as a static. The clock starts when the first source does: planning and deploying are not measured.
 */
public final class Outcome {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private static Outcome current = new Outcome();

    private final Tally tally = new Tally();
    private final Map<Long, Long> sums = new HashMap<>();
    private boolean started;
    private long startTime, startCpu, seconds, cpu, checkpoints, events;

    /** Forgets the last run. */
    public static synchronized void begin() {
        current = new Outcome();
    }

    /** A source begins to read. */
    public static synchronized void started() {
        if (!current.started) {
            current.started = true;
            current.startTime = System.nanoTime();
            current.startCpu = SYSTEM.getProcessCpuTime();
        }
    }

    /** The first source hears of a completed checkpoint. */
    public static synchronized void checkpointed() {
        current.checkpoints++;
    }

    /** A reader has come to its end, after so many events. */
    public static synchronized void read(long events) {
        current.events += events;
    }

    /** A sink has seen its last row. */
    public static synchronized void add(Tally tally) {
        current.tally.add(tally);
    }

    /** A sink of (key, number) rows that are to be summed by key has seen its last row. */
    public static synchronized void add(Map<Long, Long> sums) {
        sums.forEach((key, sum) -> current.sums.merge(key, sum, Long::sum));
    }

    /** The run has ended. */
    public static synchronized Outcome end() {
        Outcome run = current;
        run.seconds = System.nanoTime() - run.startTime;
        run.cpu = SYSTEM.getProcessCpuTime() - run.startCpu;
        if (!run.started) {
            throw new IllegalStateException("the run ended and no source had begun");
        }
        RowText row = new RowText();
        run.sums.forEach((key, sum) -> run.tally.add(row.clear().add(key).add(sum)));
        return run;
    }

    public double seconds() {
        return seconds / 1e9;
    }

    /** Of every thread of the process, those of the JIT and the garbage collector too. */
    public double cpuSeconds() {
        return cpu / 1e9;
    }

    public long events() {
        return events;
    }

    public long checkpoints() {
        return checkpoints;
    }

    public Tally tally() {
        return tally;
    }
}
