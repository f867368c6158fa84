package org.millrace.peers.rows;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;
import org.millrace.peers.Vectors;

class TallyTest {
    @Test
    void hashesOfARowAreThePublishedOnes() {
        RowText row = new RowText().add(1107).add("1415");
        assertEquals("1107|1415", row.toString());
        String got = "%016x %016x".formatted(
                Xxh64.of(row.bytes(), row.length(), 0), Xxh64.of(row.bytes(), row.length(), 1));
        assertEquals(Vectors.section("XXH64 of one row").get(0), got);
    }

    @Test
    void piecesHashAsTheWhole() {
        byte[] data = "the quick brown fox jumps over the lazy dog, and then it jumps back again".getBytes(
                StandardCharsets.US_ASCII);
        for (int cut = 0; cut <= data.length; cut++) {
            Xxh64 hash = new Xxh64(7);
            hash.update(data, cut);
            byte[] rest = java.util.Arrays.copyOfRange(data, cut, data.length);
            hash.update(rest, rest.length);
            assertEquals(Xxh64.of(data, data.length, 7), hash.value(), "cut at " + cut);
        }
    }

    @Test
    void aRetractionUndoesARow() {
        Tally tally = new Tally();
        tally.add(new RowText().add(1).add("a"));
        tally.add(new RowText().add(2).add("b"));
        tally.retract(new RowText().add(1).add("a"));
        Tally want = new Tally();
        want.add(new RowText().add(2).add("b"));
        assertEquals(want.toString(), tally.toString());
    }
}
