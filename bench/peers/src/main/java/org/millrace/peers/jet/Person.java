package org.millrace.peers.jet;

import java.io.Serializable;

/** What q8 needs of a person. */
record Person(long id, String name) implements Serializable {}
