// Package lateness measures how late rows leave a job whose events come by the
// clock.
//
// A Schedule says when the clock reaches an event time: the event of that time
// is due then, and so is a result of that time, be it of an event or of a window
// that ends there. No stamp travels with the records. Each subtask of a Sink
// keeps a histogram and leaves it in a folder when it ends.
package lateness
