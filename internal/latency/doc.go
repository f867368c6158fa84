// Package latency counts durations in a histogram of which quantiles can be
// told within 1.6 %, from a nanosecond to hours, without keeping the values.
//
// A Histogram belongs to one goroutine and recording into it costs a few
// nanoseconds. Those of several subtasks are written to files of one folder
// (Write) and read back as one (ReadFolder).
package latency
