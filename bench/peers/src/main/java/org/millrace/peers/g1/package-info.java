/**
 * Generator {@code g1} of Nexmark events: event n of a seed is the same bytes as in every other implementation.
 * A {@link org.millrace.peers.g1.Generator} fills one {@link org.millrace.peers.g1.Event} again and again and allocates
 * nothing; each engine makes of it what its records are.
 */
package org.millrace.peers.g1;
