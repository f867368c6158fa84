package snapshot

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// combine is the CRC-32C of two pieces one after the other, from those of each
// and the length of the second: appending n bytes multiplies the first one's
// remainder by x^(8n). So the CRC of a whole run follows from its head alone,
// which has those of all blocks.
func combine(first, second uint32, length int64) uint32 {
	return multiply(first, shift(length)) ^ second
}

// reflected is the Castagnoli polynomial with x^31 in bit 0, as remainders are
// held.
const reflected = 0x82f63b78

// multiply is a product of remainders.
func multiply(a, b uint32) uint32 {
	var p uint32
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			p ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ reflected
		} else {
			b >>= 1
		}
	}
	return p
}

// powers[k] is x^(8 × 2^k).
var powers = func() (p [48]uint32) {
	p[0] = 1 << 23 // x^8
	for k := 1; k < len(p); k++ {
		p[k] = multiply(p[k-1], p[k-1])
	}
	return p
}()

// shift is x^(8n).
func shift(n int64) uint32 {
	p := uint32(1) << 31 // 1
	for k := 0; n != 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			p = multiply(p, powers[k])
		}
	}
	return p
}
