// Package keygroup maps keys to their owners. A key's 64-bit hash (frozen:
// docs/formats/keyhash.md) falls into one of a fixed number of key groups, and
// each subtask owns a contiguous range of them. The map from hash to group is
// monotone, so a group is also a contiguous range of hashes, and a table in
// hash order is in key group order.
package keygroup

import "fmt"

// Default is the number of key groups (max parallelism) of a job that sets none;
// Max is the most that the formats can hold.
const (
	Default = 1024
	Max     = 32768
)

// Of returns the key group of a hash among n groups.
func Of(hash uint64, n int) int {
	return int((hash >> 32) * uint64(n) >> 32)
}

// Owner returns the subtask that owns a key group, of parallelism subtasks.
func Owner(group, parallelism, n int) int {
	return group * parallelism / n
}

// Range is a contiguous range of key groups, both ends inclusive, out of N.
type Range struct {
	First, Last int
	N           int
}

// RangeOf returns the key groups that a subtask owns.
func RangeOf(subtask, parallelism, n int) Range {
	first := (subtask*n + parallelism - 1) / parallelism
	last := ((subtask+1)*n - 1) / parallelism
	return Range{First: first, Last: last, N: n}
}

// Contains says whether the group is in the range.
func (r Range) Contains(group int) bool { return group >= r.First && group <= r.Last }

// Overlaps says whether two ranges share a group.
func (r Range) Overlaps(first, last int) bool { return r.First <= last && first <= r.Last }

// Len is the number of groups.
func (r Range) Len() int { return r.Last - r.First + 1 }

func (r Range) String() string { return fmt.Sprintf("%d..%d of %d", r.First, r.Last, r.N) }
