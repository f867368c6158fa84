/**
 * Nexmark in the DataStream API as one writes it first: records are POJOs, streams are keyed, joined and windowed with what
 * the API offers, state is what the runtime context gives. A class a query.
 */
package org.millrace.peers.flink.stream;
