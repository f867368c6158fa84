package window

// Cut returns the slice [start, end) of time that t lies in, and whether any
// window covers it: the windows of fixed size that cover a part of a slice cover
// all of it.
func (a Assigner) Cut(t int64) (start, end int64, covered bool) { return a.slice(t) }

// FirstEnd and LastEnd are the ends of the earliest and of the latest window that
// covers the slice at start. They are Slide apart from one window to the next.
func (a Assigner) FirstEnd(start int64) int64 { return a.firstEnd(start) }

// LastEnd is described at FirstEnd.
func (a Assigner) LastEnd(start int64) int64 { return a.lastEnd(start) }

// Cuts says how time is cut into slices: state cut otherwise does not fit.
func (a Assigner) Cuts() string { return a.cuts() }
