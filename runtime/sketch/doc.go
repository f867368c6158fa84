// Package sketch estimates what is costly to know exactly, in a fixed memory: how
// many different values there were (Distinct), and quantiles of numbers
// (Quantiles).
//
// Sketches are plain values with exported fields, which the derived codec encodes
// (docs/formats/codec.md): they are state like any other. Merging is commutative and
// associative, and gives exactly what adding all values to one sketch would have, so
// results do not depend on the order of records, on parallelism or on failures. A
// sketch belongs to one goroutine at a time. The zero value is empty.
package sketch
