//go:build !amd64 && !arm64

package state

import "unsafe"

// prefetch has no instruction here.
func prefetch(*unsafe.Pointer, int) {}
