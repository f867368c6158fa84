/** Result rows as text, and the sums by which a run's rows are compared: a count and two sums of XXH64, in any order. */
package org.millrace.peers.rows;
