// Package ledger holds what must be true of a job that keeps accounts, seen from
// outside: what goes in (Script), what comes out (Row), and the Checker, which
// reads the output commit by commit and says at once when something is missing,
// double, out of order or made up.
//
// Input are entries of accounts: a key, its sequence number, an amount and an
// event time. Records are a function of their number in the Script, so that
// nobody has to keep them. A few come a minute late on purpose.
//
// Output are Rows: each entry with the account's running sum; each window of ten
// seconds with count and sum; entries that came too late for their window; and a
// timer for every fourth entry. The job is package ledgerjob.
//
// The Checker knows the input by shard, in the order of the shard. Invariants 1
// to 9 are in its comment. It is a step machine: no goroutine, clock or I/O.
package ledger
