package org.millrace.peers;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** The published vectors: lines below a heading. */
public final class Vectors {
    private Vectors() {}

    /** The lines of the section whose heading begins so. */
    public static List<String> section(String heading) {
        List<String> lines = new ArrayList<>();
        try (BufferedReader in = new BufferedReader(new InputStreamReader(
                Vectors.class.getResourceAsStream("/nexmark-vectors.txt"), StandardCharsets.UTF_8))) {
            boolean here = false;
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                if (line.startsWith("## ")) {
                    here = line.startsWith(heading, 3);
                } else if (here && !line.isEmpty()) {
                    lines.add(line);
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        if (lines.isEmpty()) {
            throw new IllegalArgumentException("no vectors below " + heading);
        }
        return lines;
    }
}
