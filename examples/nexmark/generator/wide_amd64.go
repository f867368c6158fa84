package generator

import "golang.org/x/sys/cpu"

// wide says that the machine has the instructions of beginWide and spellWide:
// Intel's have had them since 2019, AMD's since 2022.
var wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VBMI

// Tables of the assembly. In its bytes, a draw's first eight letters are in
// order in one vector, the other four in another.
var (
	factors = [2]uint64{factor1, factor2}
	// lane are the numbers of the lanes, steps from a state to those of its draws.
	lane, steps [lanes]uint64
	// shifts say at which bit of its draw the letter of each byte begins, for both
	// vectors.
	shifts [2][64]byte
	// places say for each letter of a block in which byte it is: 0 to 63 of the
	// one vector, 64 to 127 of the other.
	places [2][64]byte
	// alphabet is the letter of five bits, whatever the sixth.
	alphabet [64]byte
)

func init() {
	for i := range uint64(lanes) {
		lane[i], steps[i] = i, (i+1)*golden
	}
	for i := range alphabet {
		shifts[0][i], shifts[1][i] = byte(i%8*5), byte((8+i%4)*5)
		alphabet[i] = byte('a' + i&31%26)
	}
	for i := range block {
		draw, letter := i/perDraw, i%perDraw
		places[i/64][i%64] = byte(letter/8*64 + draw*8 + letter%8)
	}
}

// beginWide is run.begin.
//
//go:noescape
func beginWide(r *run, x, step uint64, count int)

// spellWide writes so many blocks, at least one, of the letters of draws 0 and on
// of a state.
//
//go:noescape
func spellWide(dst *byte, e uint64, blocks int)
