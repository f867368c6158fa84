//go:build ledger_v2

package main

// Account is the state of a key, as the next version of the job has it: a field
// more, in front of the others.
type Account struct {
	Label  string
	Next   uint64
	Sum    int64
	Newest int64
}
