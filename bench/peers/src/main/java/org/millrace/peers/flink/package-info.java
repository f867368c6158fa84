/**
 * Nexmark in Apache Flink, in a MiniCluster of one task manager, its slots those of the parallelism. The forms are
 * {@code sql} (the benchmark's text), {@code stream} (the DataStream API as one writes it first) and {@code tuned} (by
 * hand: combining before the exchange, primitive serializers, records used again). All of them reuse objects.
 */
package org.millrace.peers.flink;
