//go:build !ledger_v2

package main

// Account is the state of a key.
type Account struct {
	Next   uint64
	Sum    int64
	Newest int64
}
