// Package rates keeps what tasks report about themselves: the last two metrics
// reports of every task, from which it derives figures a second.
//
// Store is safe for any goroutine, starts none and reads no clock. Counters
// are those of the present attempt: a report of a newer epoch replaces all of
// an older one. A figure that was not reported, or that needs a second report
// which has not come, is absent, never zero; rates are absent too when the last
// report is older than Stale, for then nobody knows.
package rates
