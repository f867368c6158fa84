package org.millrace.peers;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import org.millrace.peers.flink.FlinkEngine;
import org.millrace.peers.g1.Event;
import org.millrace.peers.g1.Generator;
import org.millrace.peers.g1.Settings;
import org.millrace.peers.jet.JetEngine;

/**
 * {@code Peers flink|jet|generator}: answers each request on a line of standard input with a line of JSON on standard
 * output, and ends with its input.
 */
public final class Peers {
    private Peers() {}

    public static void main(String[] args) throws Exception {
        // Whatever an engine prints goes where its log does.
        PrintStream answers = System.out;
        System.setOut(System.err);
        Locale.setDefault(Locale.ROOT);
        if (args.length != 1) {
            System.err.println("usage: Peers flink|jet|generator");
            System.exit(2);
        }
        boolean failed = false;
        try (Engine engine = engine(args[0]);
                BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                if (line.isBlank()) {
                    continue;
                }
                try {
                    answers.println(run(engine, Request.parse(line)));
                } catch (Exception e) {
                    failed = true;
                    e.printStackTrace();
                    answers.println("{\"error\":" + quoted(cause(e)) + "}");
                }
                answers.flush();
            }
        }
        // Engines leave threads behind that are no daemons.
        System.exit(failed ? 1 : 0);
    }

    private static Engine engine(String name) {
        return switch (name) {
            case "flink" -> new FlinkEngine();
            case "jet" -> new JetEngine();
            case "generator" -> new Bare();
            default -> throw new IllegalArgumentException("no engine " + name);
        };
    }

    private static String run(Engine engine, Request request) throws Exception {
        System.gc(); // what the last run left is not this one's
        Outcome.begin();
        engine.run(request);
        Outcome outcome = Outcome.end();
        return "{\"version\":%s,\"events\":%d,\"seconds\":%.3f,\"cpu\":%.3f,\"checkpoints\":%d,\"memory\":%d,\"sums\":%s}"
                .formatted(quoted(engine.version()), outcome.events(), outcome.seconds(), outcome.cpuSeconds(),
                        outcome.checkpoints(), peakMemory(), quoted(request.tallied() ? outcome.tally().toString() : ""));
    }

    /** The most memory that the process has had resident, in bytes; 0 where the system does not say. */
    private static long peakMemory() throws Exception {
        Path status = Path.of("/proc/self/status");
        if (Files.exists(status)) {
            for (String line : Files.readAllLines(status)) {
                if (line.startsWith("VmHWM:")) {
                    return Long.parseLong(line.replaceAll("\\D", "")) << 10;
                }
            }
        }
        return 0;
    }

    private static String cause(Throwable e) {
        while (e.getCause() != null) {
            e = e.getCause();
        }
        return e.toString();
    }

    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ') {
                json.append(' ');
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }

    /** The generator alone, on one thread. */
    private static final class Bare implements Engine {
        private long seen;

        @Override
        public void run(Request request) {
            Settings settings = request.settings();
            Generator generator = new Generator(settings);
            Event event = new Event();
            Outcome.started();
            Deadline deadline = new Deadline(request.limit());
            long n = 0;
            for (; n < settings.events() && ((n & 0xfff) != 0 || !deadline.passed()); n++) {
                generator.fill(n, event);
                seen += event.extra[0];
            }
            Outcome.read(n);
            if (seen < 0) {
                throw new IllegalStateException("letters are above zero");
            }
        }

        @Override
        public String version() {
            return System.getProperty("java.vm.version");
        }
    }
}
