package org.millrace.peers.g1;

import java.nio.charset.StandardCharsets;
import java.util.concurrent.ConcurrentHashMap;

/** The channels of bids and their URLs, which depend on the seed alone: the four hot ones, then channel-0 to channel-9999. */
public final class Channels {
    private static final String[] HOT = {"Google", "Facebook", "Baidu", "Apple"};
    private static final int COLD = 10_000;
    private static final ConcurrentHashMap<Long, Channels> BY_SEED = new ConcurrentHashMap<>();

    private final String[] names = new String[HOT.length + COLD];
    private final String[] urls = new String[names.length];

    /** The channels of a seed, made once. */
    public static Channels of(long seed) {
        return BY_SEED.computeIfAbsent(seed, Channels::new);
    }

    private Channels(long seed) {
        byte[] buffer = new byte[256];
        for (int i = 0; i < names.length; i++) {
            long w = Draws.mix(seed + 0x75726c00L + (i + 1) * Draws.G);
            StringBuilder url = new StringBuilder("https://www.nexmark.com/");
            for (int k = 0; k < 30; k += 10) {
                int length = Draws.word(w, k, 5, buffer, 0);
                url.append(new String(buffer, 0, length, StandardCharsets.ISO_8859_1)).append('/');
            }
            url.append("item.htm?query=1");
            if (i < HOT.length) {
                names[i] = HOT[i];
            } else {
                long c = i - HOT.length;
                names[i] = "channel-" + c;
                if (Draws.below(Draws.draw(w, 50), 10) > 0) {
                    url.append("&channel_id=").append(c * 2654435761L % (1L << 31));
                }
            }
            urls[i] = url.toString();
        }
    }

    static int hot(int j) {
        return j;
    }

    static int cold(int c) {
        return HOT.length + c;
    }

    public int size() {
        return names.length;
    }

    public String name(int i) {
        return names[i];
    }

    public String url(int i) {
        return urls[i];
    }
}
