package org.millrace.peers.flink;

import java.io.Serializable;
import org.millrace.peers.g1.Event;
import org.millrace.peers.g1.Generator;

/** What a source's records are. */
@FunctionalInterface
public interface EventMaker<T> extends Serializable {
    /** The form of records that one reader makes; called once a reader. */
    Form<T> open(Generator generator, Event event);

    /** Makes the record of what event holds now, or null where it has none. */
    @FunctionalInterface
    interface Form<T> {
        T make();
    }
}
