package generator

// golden steps from one draw to the next.
const golden = 0x9e3779b97f4a7c15

// The factors of mix.
const (
	factor1 = 0xbf58476d1ce4e5b9
	factor2 = 0x94d049bb133111eb
)

// mix scatters the bits of x.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= factor1
	x ^= x >> 27
	x *= factor2
	return x ^ x>>31
}

// draw is draw k of a state.
func draw(e, k uint64) uint64 { return mix(e + (k+1)*golden) }

// lanes is how many draws are made side by side, and how many events.
const lanes = 8

// run has the states of some events, and draws 0 to 7 of each.
type run struct {
	states [lanes]uint64
	draws  [lanes][lanes]uint64
}

// begin makes the states and the draws of count events, the first of which is
// mixed of x, each other one of step more.
func (r *run) begin(x, step uint64, count int) {
	if wide {
		beginWide(r, x, step, count)
		return
	}
	for i := range count {
		e := mix(x + uint64(i)*step)
		r.states[i] = e
		for k := range r.draws[i] {
			r.draws[i][k] = draw(e, uint64(k))
		}
	}
}

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
