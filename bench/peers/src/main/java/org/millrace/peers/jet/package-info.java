/**
 * Nexmark in Hazelcast Jet, on one member with a cooperative thread for each reader. Records are immutable, for Jet hands
 * them over by reference; windows combine before the exchange, which is Jet's own way. A checkpoint interval asks for
 * exactly-once with snapshots in memory, none for no guarantee.
 */
package org.millrace.peers.jet;
