/**
 * Nexmark in Apache Flink, in a MiniCluster of one task manager, its slots those of the parallelism. The forms are
 * {@code sql} (the benchmark's text) and {@code stream} (the DataStream API as one writes it first). Both reuse objects.
 */
package org.millrace.peers.flink;
