// Package watermark keeps event time: of a source's splits (Tracker), and of a
// task's input channels (Combiner).
//
// A watermark t says that no record with a time of t or less is to come. Both
// types are step machines for the task's goroutine: they start nothing, read
// no clock (now is an argument) and cannot fail. What they return never falls.
//
// Caught up is not idle. A split holds time back until it has been empty for
// the idle-after time; one whose data is only late in coming never becomes
// idle, nor does one that is held back because it is ahead of the others.
package watermark
