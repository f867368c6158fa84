/**
 * Runs the queries of Nexmark in other engines, over the events of generator g1: {@link org.millrace.peers.Peers} reads
 * requests from its standard input, a line each, and answers each with a line of JSON. What an engine's rows come to is
 * compared with what Millrace's do before anybody looks at the time they took.
 */
package org.millrace.peers;
