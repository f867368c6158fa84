#include "go_asm.h"
#include "textflag.h"

// MIX makes draws of eight states: it is mix.
#define MIX(x, t) \
	VPSRLQ       $30, x, t               \
	VPXORQ       t, x, x                 \
	VPMULLQ.BCST ·factors+0(SB), x, x    \
	VPSRLQ       $27, x, t               \
	VPXORQ       t, x, x                 \
	VPMULLQ.BCST ·factors+8(SB), x, x    \
	VPSRLQ       $31, x, t               \
	VPXORQ       t, x, x

// LETTERS writes the block of the draws x to dst: it shifts each letter's bits to
// the beginning of a byte, puts the bytes in order and looks the letters up.
#define LETTERS(x, dst) \
	VMOVDQU64      ·shifts+0(SB), Z4     \
	VMOVDQU64      ·shifts+64(SB), Z5    \
	VPMULTISHIFTQB x, Z4, Z4             \
	VPMULTISHIFTQB x, Z5, Z5             \
	VMOVDQU64      ·places+0(SB), Z6     \
	VMOVDQU64      ·places+64(SB), Z7    \
	VPERMI2B       Z5, Z4, Z6            \
	VPERMI2B       Z5, Z4, Z7            \
	VMOVDQU64      ·alphabet(SB), Z4     \
	VPERMB         Z4, Z6, Z6            \
	VPERMB         Z4, Z7, Z7            \
	VMOVDQU64      Z6, (dst)             \
	VMOVDQU        Y7, 64(dst)

// func beginWide(r *run, x, step uint64, count int)
TEXT ·beginWide(SB), NOSPLIT, $0-32
	MOVQ r+0(FP), DI
	MOVQ count+24(FP), CX
	VPBROADCASTQ step+16(FP), Z0
	VPMULLQ ·lane(SB), Z0, Z0
	VPADDQ.BCST x+8(FP), Z0, Z0
	MIX(Z0, Z1)
	VMOVDQU64 Z0, run_states(DI)
	XORQ AX, AX
next:
	VPBROADCASTQ AX, Z2
	VPERMQ Z0, Z2, Z3 // the state of the lane AX, in all lanes
	VPADDQ ·steps(SB), Z3, Z3
	MIX(Z3, Z1)
	VMOVDQU64 Z3, run_draws(DI)
	ADDQ $64, DI
	INCQ AX
	CMPQ AX, CX
	JLT  next
	VZEROUPPER
	RET

// func spellWide(dst *byte, e uint64, blocks int)
TEXT ·spellWide(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ blocks+16(FP), CX
	VPBROADCASTQ e+8(FP), Z0
	VPADDQ ·steps(SB), Z0, Z0
next:
	VMOVDQU64 Z0, Z1
	MIX(Z1, Z2)
	LETTERS(Z1, DI)
	VPADDQ.BCST ·steps+56(SB), Z0, Z0 // eight draws on
	ADDQ $96, DI
	DECQ CX
	JNZ  next
	VZEROUPPER
	RET
