package sketch

import (
	"math"
	"slices"
)

// Quantiles estimates quantiles of numbers within 1 % of the number itself,
// whatever their distribution.
//
// It is a DDSketch (C. Masson, J. E. Rim and H. K. Lee, "DDSketch: a fast and
// fully-mergeable quantile sketch with relative-error guarantees", PVLDB 12, 2019):
// numbers are counted in bins whose bounds grow by (1+a)/(1-a), with a of 1 %. Positive
// and negative numbers have up to 2048 bins each, 16 KiB, which reach over 17 powers of
// ten; where numbers reach further, those nearest to zero share a bin, and only
// quantiles that fall in it are less exact. A NaN is left out.
type Quantiles struct {
	Positive, Negative Bins
	Zeros              uint64
	Count              uint64
	Least, Greatest    float64
}

// Bins count numbers by their magnitude: bin i, from First on, those above
// gamma^(i-1) and up to gamma^i.
type Bins struct {
	First  int32
	Counts []uint64
}

const (
	accuracy = 0.01
	gamma    = (1 + accuracy) / (1 - accuracy)
	maxBins  = 2048
)

var logGamma = math.Log(gamma)

// Add adds a number.
func (s *Quantiles) Add(x float64) {
	if math.IsNaN(x) {
		return
	}
	x = max(-math.MaxFloat64, min(math.MaxFloat64, x))
	if s.Count == 0 {
		s.Least, s.Greatest = x, x
	}
	s.Count++
	s.Least, s.Greatest = min(s.Least, x), max(s.Greatest, x)
	switch {
	case x > 0:
		s.Positive.add(binOf(x), 1)
	case x < 0:
		s.Negative.add(binOf(-x), 1)
	default:
		s.Zeros++
	}
}

func binOf(x float64) int32 { return int32(math.Ceil(math.Log(x) / logGamma)) }

// add counts n numbers in a bin. The bins kept are those up to the highest that
// was ever asked for, so it does not matter in which order they came.
func (b *Bins) add(bin int32, n uint64) {
	if len(b.Counts) == 0 {
		b.First, b.Counts = bin, append(b.Counts, n)
		return
	}
	last := b.First + int32(len(b.Counts)) - 1
	switch {
	case bin > last:
		if lowest := bin - maxBins + 1; lowest > b.First {
			b.collapse(lowest)
		}
		b.Counts = append(b.Counts, make([]uint64, int(bin-b.First)+1-len(b.Counts))...)
	case bin < b.First:
		bin = max(bin, last-maxBins+1)
		if more := int(b.First - bin); more > 0 {
			b.Counts = slices.Insert(b.Counts, 0, make([]uint64, more)...)
			b.First = bin
		}
	}
	b.Counts[bin-b.First] += n
}

// collapse puts all numbers below a bin into it.
func (b *Bins) collapse(lowest int32) {
	gone := min(int(lowest-b.First), len(b.Counts))
	sum := uint64(0)
	for _, n := range b.Counts[:gone] {
		sum += n
	}
	b.Counts = slices.Delete(b.Counts, 0, gone)
	b.First = lowest
	if len(b.Counts) == 0 {
		b.Counts = append(b.Counts, 0)
	}
	b.Counts[0] += sum
}

// Merge adds all numbers of another sketch, and keeps nothing of its memory.
func (s *Quantiles) Merge(other *Quantiles) {
	if other.Count == 0 {
		return
	}
	if s.Count == 0 {
		s.Least, s.Greatest = other.Least, other.Greatest
	}
	s.Least, s.Greatest = min(s.Least, other.Least), max(s.Greatest, other.Greatest)
	s.Count += other.Count
	s.Zeros += other.Zeros
	s.Positive.merge(&other.Positive)
	s.Negative.merge(&other.Negative)
}

func (b *Bins) merge(other *Bins) {
	for i := len(other.Counts) - 1; i >= 0; i-- { // the highest first, to make room once
		if n := other.Counts[i]; n > 0 || i == len(other.Counts)-1 {
			b.add(other.First+int32(i), n)
		}
	}
}

// Quantile is the number below which a share of q of all numbers are, about: the
// one of rank q·(n-1) of n, from 0, in ascending order. q is from 0 to 1; the least
// and the greatest are exact. Without numbers it is NaN.
func (s *Quantiles) Quantile(q float64) float64 {
	if s.Count == 0 || math.IsNaN(q) {
		return math.NaN()
	}
	if q <= 0 {
		return s.Least
	}
	if q >= 1 {
		return s.Greatest
	}
	rank := uint64(q * float64(s.Count-1))
	return max(s.Least, min(s.Greatest, s.at(rank)))
}

// at is the number of a rank.
func (s *Quantiles) at(rank uint64) float64 {
	for i := len(s.Negative.Counts) - 1; i >= 0; i-- {
		if n := s.Negative.Counts[i]; rank < n {
			return -middle(s.Negative.First + int32(i))
		} else {
			rank -= n
		}
	}
	if rank < s.Zeros {
		return 0
	}
	rank -= s.Zeros
	for i, n := range s.Positive.Counts {
		if rank < n {
			return middle(s.Positive.First + int32(i))
		}
		rank -= n
	}
	return s.Greatest
}

// middle is the number that is as far, relatively, from both bounds of a bin.
func middle(bin int32) float64 { return math.Exp(float64(bin)*logGamma) * 2 / (1 + gamma) }
