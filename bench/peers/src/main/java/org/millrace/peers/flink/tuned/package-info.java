/**
 * Nexmark in Flink as one tunes it by hand: a source emits one event again and again, operators chained to it combine what
 * goes to the same key before the exchange, what they send is a few longs with a serializer of its own, and state is arrays,
 * snapshotted as such. What is combined is sent before a barrier or a watermark passes.
 */
package org.millrace.peers.flink.tuned;
