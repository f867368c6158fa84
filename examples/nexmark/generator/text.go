package generator

import "encoding/binary"

const (
	// perDraw is how many letters one draw gives.
	perDraw = 12
	// block is how many letters the draws of all lanes give.
	block = lanes * perDraw
)

// letters are two letters for ten bits of a draw.
var letters = func() (t [1 << 10]uint16) {
	for i := range t {
		t[i] = uint16('a'+i&31%26) | uint16('a'+i>>5%26)<<8
	}
	return t
}()

// spell fills dst, whose length is a multiple of perDraw, with the letters of
// draws k and on of a state.
func spell(dst []byte, e, k uint64) {
	t := &letters
	for e += (k + 1) * golden; len(dst) >= perDraw; e += golden {
		r := mix(e)
		binary.LittleEndian.PutUint64(dst, uint64(t[r&1023])|uint64(t[r>>10&1023])<<16|
			uint64(t[r>>20&1023])<<32|uint64(t[r>>30&1023])<<48)
		binary.LittleEndian.PutUint32(dst[8:], uint32(t[r>>40&1023])|uint32(t[r>>50&1023])<<16)
		dst = dst[perDraw:]
	}
}

// write puts text(e, k, n) at the beginning of dst, which has room for the whole
// block that it ends in, and returns n, at least 1.
func write(dst []byte, e, k uint64, n int) int {
	if wide {
		blocks := (n + block - 1) / block
		spellWide(&dst[:blocks*block][0], e+k*golden, blocks)
		return n
	}
	spell(dst[:(n+perDraw-1)/perDraw*perDraw], e, k)
	return n
}

// word puts word(e, k, most) at the beginning of dst, with as much room, and
// returns its length.
func word(dst []byte, e, k uint64, most uint32) int {
	return write(dst, e, k+1, 3+int(below(draw(e, k), most-3)))
}
