package org.millrace.peers.g1;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.BitSet;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.millrace.peers.Vectors;
import org.millrace.peers.rows.RowText;
import org.millrace.peers.rows.Xxh64;

class GeneratorTest {
    @Test
    void firstEventsAreThePublishedLines() {
        List<String> want = Vectors.section("event lines: seed 1, rate 10000");
        Generator generator = new Generator(new Settings(1, 10_000, want.size()));
        Event event = new Event();
        RowText line = new RowText();
        for (int n = 0; n < want.size(); n++) {
            generator.fill(n, event);
            assertEquals(want.get(n), EventLine.write(event, generator.channels(), line).toString(), "event " + n);
        }
    }

    @Test
    void sumsOfManyEventsAreThePublishedOnes() {
        for (String vector : Vectors.section("event lines, XXH64")) {
            String[] field = vector.split(" ");
            Settings settings = new Settings(Long.parseLong(field[0]), Long.parseLong(field[1]), Long.parseLong(field[2]));
            Generator generator = new Generator(settings);
            Event event = new Event();
            RowText line = new RowText();
            Xxh64 sum = new Xxh64(0);
            for (long n = 0; n < settings.events(); n++) {
                generator.fill(n, event);
                EventLine.write(event, generator.channels(), line).newline();
                sum.update(line.bytes(), line.length());
            }
            assertEquals(field[3], "%016x".formatted(sum.value()), vector);
        }
    }

    @Test
    void readersShareTheEventsAndEqualTimesStayTogether() {
        for (long rate : new long[] {1, 777, 10_000, 1_000_000, 30_000_000}) {
            for (int readers : new int[] {1, 2, 3}) {
                Settings settings = new Settings(1, rate, 123_456);
                BitSet seen = new BitSet();
                int[] of = new int[(int) settings.events()];
                for (int reader = 0; reader < readers; reader++) {
                    Cursor cursor = new Cursor(settings, reader, readers);
                    long last = -1;
                    for (long n = cursor.next(); n >= 0; n = cursor.next()) {
                        assertEquals(true, n > last && !seen.get((int) n), "event " + n + " again or out of order");
                        seen.set((int) n);
                        of[(int) n] = reader;
                        last = n;
                        if (n % 1777 == 0) {
                            long[] position = cursor.position();
                            cursor = new Cursor(settings, reader, readers);
                            cursor.restore(position);
                        }
                    }
                }
                assertEquals(settings.events(), seen.cardinality(), "events at rate " + rate);
                for (int n = 1; n < of.length; n++) {
                    if (settings.time(n) == settings.time(n - 1)) {
                        assertEquals(of[n - 1], of[n], "reader of event " + n + " at rate " + rate);
                    }
                }
            }
        }
    }

    @Test
    void anyOrderGivesTheSameTimes() {
        for (long rate : new long[] {1, 777, 1000, 10_000, 3_000_000}) {
            Settings settings = new Settings(1, rate, 1 << 20);
            Generator generator = new Generator(settings);
            Event event = new Event();
            for (long n : new long[] {0, 1, 2, 3, 776, 777, 778, 99_999, 100_000, 5, 6, 7, 8}) {
                generator.fill(n, event);
                assertEquals(settings.time(n), event.time, "event " + n + " at rate " + rate);
            }
        }
    }
}
