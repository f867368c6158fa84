// Package generator makes the events of Nexmark: generator g1, by which event n
// of a seed is the same on every machine and at every parallelism.
//
// A Generator makes events one behind the other and belongs to one goroutine.
// Its text is made anew for each event and lies in slabs, so that an event
// costs no allocation of its own; only URLs, which depend on the seed and the
// channel alone, are kept (Channels).
//
// On amd64 with AVX-512 (VBMI) draws are made and letters spelled eight draws at
// a time, elsewhere one by one; the events are the same.
//
// Source reads them in a job: 64 splits, whatever the parallelism, split i
// holding the events i, i+64, i+128 and so on.
package generator
