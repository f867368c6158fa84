package generator

import "encoding/binary"

// golden steps from one draw to the next.
const golden = 0x9e3779b97f4a7c15

// mix scatters the bits of x.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// draw is draw k of a state.
func draw(e, k uint64) uint64 { return mix(e + (k+1)*golden) }

// below makes a number below m, at most 2^31, of a draw.
func below(r uint64, m uint32) uint32 { return uint32(r>>33) % m }

// either is a, or b when bit is 1. Half the draws would be foreseen wrongly by a
// branch.
func either(bit, a, b uint64) uint64 { return a ^ (a^b)&-bit }

// price makes 100 to 104857550 cents of a draw, log-uniform in pieces.
func price(r uint64) int64 {
	k := below(r, 20)
	return int64((100 * (1<<20 + r&0xfffff)) >> (20 - k))
}

// letters are two letters for ten bits of a draw.
var letters = func() (t [1 << 10]uint16) {
	for i := range t {
		t[i] = uint16('a'+i&31%26) | uint16('a'+i>>5%26)<<8
	}
	return t
}()

// perDraw is how many letters one draw gives.
const perDraw = 12

// spell writes the letters of one draw and those that follow it: x is its state,
// as draw would mix it. The end of dst that a whole draw does not fit is left.
func spell(dst []byte, x uint64) {
	t := &letters
	for len(dst) >= perDraw {
		r := mix(x)
		binary.LittleEndian.PutUint64(dst, uint64(t[r&1023])|uint64(t[r>>10&1023])<<16|
			uint64(t[r>>20&1023])<<32|uint64(t[r>>30&1023])<<48)
		binary.LittleEndian.PutUint32(dst[8:], uint32(t[r>>40&1023])|uint32(t[r>>50&1023])<<16)
		x += golden
		dst = dst[perDraw:]
	}
}

// write puts text(e, k, n) at the beginning of dst, which has room for up to
// perDraw-1 letters more, and returns n.
func write(dst []byte, e, k uint64, n int) int {
	spell(dst[:(n+perDraw-1)/perDraw*perDraw], e+(k+1)*golden)
	return n
}

// word puts word(e, k, most) at the beginning of dst, with as much room, and
// returns its length.
func word(dst []byte, e, k uint64, most uint32) int {
	return write(dst, e, k+1, 3+int(below(draw(e, k), most-3)))
}
