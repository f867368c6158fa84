package org.millrace.peers;

/** Runs a request to the end of its input; what came of it is in {@link Outcome}. */
public interface Engine extends AutoCloseable {
    void run(Request request) throws Exception;

    String version();

    @Override
    default void close() {}
}
