// Package bench is the room of what measures Millrace from outside, over public
// interfaces alone. Benchmarks of single parts stay in their packages (make
// bench); docs/benchmarks.md has the figures of both.
package bench
