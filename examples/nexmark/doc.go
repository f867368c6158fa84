// Package nexmark is Nexmark, the field's benchmark, as one job: 24 queries over
// the events of an auction house, of which one is chosen with --query.
//
// The queries are written as a user of the SDK would write them, a file a
// family of them. The events come from package generator, the same in each run;
// what a query must give for them is said in the package's tests to the byte.
// Rows that leave a query go nowhere, or, with --hash, into one line of sums
// over all of them, which any run must agree on. See README.md.
package nexmark
