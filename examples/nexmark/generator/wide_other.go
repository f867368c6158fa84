//go:build !amd64

package generator

// wide is never so here.
const wide = false

func beginWide(*run, uint64, uint64, int) {}
func spellWide(*byte, uint64, int)        {}
