// Command peers runs the queries of Nexmark here, in Apache Flink and in
// Hazelcast Jet, over the same events, and writes what it finds into
// docs/benchmarks.md: make bench-peers.
//
// The other engines run in the Java program beside this one, which reads requests
// and answers with figures (src/main/java). It ports our generator, and its tests
// hold that to the published sums.
//
//   - First the results: every contestant runs every query over -check events, and
//     what its rows come to (a count and two sums of XXH64, as bench nexmark --hash
//     prints them) is compared. A query in which two differ gets no figure of
//     speed, but both sums.
//   - Then the speed: -rounds times, one contestant after the other on the same
//     cores, so that what else the machine does meets all of them. A JVM runs the
//     same query for -warm first. How many events a run has is measured first,
//     so that it lasts -seconds: slower engines get fewer events, and thus less state.
//   - CPU time is that of every process: a JVM's from the first record that a
//     source makes to the end of the job, its compiler and collector included;
//     ours as bench nexmark counts it. The figure compared is events per second of
//     it.
//   - A run under 20 s says nothing about speed. It is shown, with a mark.
//
// Where Java, Maven or taskset is absent it says so and ends well.
package main
