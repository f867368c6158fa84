//go:build amd64 || arm64

package state

import "unsafe"

// prefetch asks memory for the lines at n addresses and waits for none. It
// never faults, whatever the addresses are. Go has no other way to ask: a read
// of its own would have to wait for the line.
//
//go:noescape
func prefetch(at *unsafe.Pointer, n int)
