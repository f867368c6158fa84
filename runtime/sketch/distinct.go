package sketch

import (
	"math"
	"math/bits"
	"slices"
)

// Distinct estimates how many different values it was given.
//
// It is a HyperLogLog of 2^14 registers (P. Flajolet, É. Fusy, O. Gandouet and F.
// Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
// algorithm", AofA 2007) with the estimator of O. Ertl ("New cardinality
// estimation algorithms for HyperLogLog sketches", 2017, section 4), which needs no
// tables of its bias. Its standard error is 1.04 ÷ √2^14, 0.81 %: two in three
// estimates are within that, 95 in 100 within 1.6 %.
//
// It begins sparse, as a list of hashes (after S. Heule, M. Nunkesser and A. Hall,
// "HyperLogLog in Practice", EDBT 2013): up to 1024 values it takes 4 bytes for each
// and is exact but for one in some 100,000; from there on it takes 16 KiB.
type Distinct struct {
	// Sparse holds hashes in ascending order, each of another place: 26 bits of
	// the hash, then 6 bits with the rank of those that follow.
	Sparse []uint32
	// Registers is empty while the sketch is sparse.
	Registers []byte
}

const (
	precision   = 14
	registers   = 1 << precision
	sparseBits  = 26
	sparseLimit = 1024
)

// mix spreads a hash anew: values are often the keys by which records were
// partitioned, so that all of one subtask have leading bits in common. It is the
// finalizer of MurmurHash3, a bijection.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Add adds a value by its hash, which must depend on all of it.
func (d *Distinct) Add(hash uint64) {
	h := mix(hash)
	if d.Registers != nil {
		d.raise(uint32(h>>(64-precision)), rank(h<<precision, 64-precision))
		return
	}
	d.insert(uint32(h>>(64-sparseBits))<<6 | uint32(rank(h<<sparseBits, 64-sparseBits)))
}

// rank is the place, from 1, of the first 1 among the leading n bits; n+1 if there
// is none.
func rank(h uint64, n int) byte { return byte(min(bits.LeadingZeros64(h), n) + 1) }

func (d *Distinct) raise(i uint32, rank byte) {
	if r := &d.Registers[i]; rank > *r {
		*r = rank
	}
}

// insert adds a sparse entry. Of those at one place the one of the highest rank
// stays.
func (d *Distinct) insert(e uint32) {
	i, _ := slices.BinarySearch(d.Sparse, e&^63)
	switch {
	case i < len(d.Sparse) && d.Sparse[i]>>6 == e>>6:
		d.Sparse[i] = max(d.Sparse[i], e)
	case len(d.Sparse) < sparseLimit:
		d.Sparse = slices.Insert(d.Sparse, i, e)
	default:
		d.spread()
		d.take(e)
	}
}

// spread gives the sketch registers.
func (d *Distinct) spread() {
	if d.Registers != nil {
		return
	}
	d.Registers = make([]byte, registers)
	for _, e := range d.Sparse {
		d.take(e)
	}
	d.Sparse = nil
}

// take adds a sparse entry to the registers.
func (d *Distinct) take(e uint32) {
	const between = sparseBits - precision
	r := rank(uint64(e>>6)<<(64-between), between)
	if r > between {
		r = between + byte(e&63)
	}
	d.raise(e>>(6+between), r)
}

// Merge adds all values of another sketch, and keeps nothing of its memory.
func (d *Distinct) Merge(other *Distinct) {
	if other.Registers == nil {
		for _, e := range other.Sparse {
			if d.Registers != nil {
				d.take(e)
			} else {
				d.insert(e)
			}
		}
		return
	}
	d.spread()
	for i, r := range other.Registers {
		d.raise(uint32(i), r)
	}
}

// Estimate is how many different values there were, about.
func (d *Distinct) Estimate() int64 {
	if d.Registers == nil {
		// Linear counting: how many values make so many of 2^26 places taken.
		const places = 1 << sparseBits
		return int64(math.Round(-places * math.Log1p(-float64(len(d.Sparse))/places)))
	}
	const q = 64 - precision
	var counts [q + 2]float64
	for _, r := range d.Registers {
		counts[r]++
	}
	z := registers * tau(1-counts[q+1]/registers)
	for k := q; k >= 1; k-- {
		z = 0.5 * (z + counts[k])
	}
	z += registers * sigma(counts[0]/registers)
	return int64(math.Round(registers * registers / (2 * math.Ln2) / z))
}

// sigma and tau are those of Ertl's algorithms 5 and 6.
func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	y, z := 1.0, x
	for {
		x *= x
		before := z
		z += x * y
		y += y
		if z == before {
			return z
		}
	}
}

func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	y, z := 1.0, 1-x
	for {
		x = math.Sqrt(x)
		before := z
		y *= 0.5
		z -= (1 - x) * (1 - x) * y
		if z == before {
			return z / 3
		}
	}
}
