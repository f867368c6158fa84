/**
 * The benchmark's own SQL (resources {@code sql/q*.sql}) over a table of events, as it declares one: three nested rows of
 * which one is set, a computed event time, a watermark of four seconds.
 */
package org.millrace.peers.flink.sql;
