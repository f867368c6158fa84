package keygroup

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

func TestGroupsAreMonotoneInTheHash(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, n := range []int{1, 2, 3, 7, 128, Default, 4095, Max} {
		if g := Of(0, n); g != 0 {
			t.Fatalf("%d groups: hash 0 in group %d", n, g)
		}
		if g := Of(math.MaxUint64, n); g != n-1 {
			t.Fatalf("%d groups: highest hash in group %d", n, g)
		}
		for range 5000 {
			a, b := rng.Uint64(), rng.Uint64()
			if rng.IntN(2) == 0 {
				b = a + rng.Uint64()>>(rng.Uint64()&63)
			}
			if a > b {
				a, b = b, a
			}
			if Of(a, n) > Of(b, n) {
				t.Fatalf("seed %d: %d groups: hash %x in group %d, higher hash %x in %d", seed, n, a, Of(a, n), b, Of(b, n))
			}
		}
	}
}

func TestOwnersAndRangesAgree(t *testing.T) {
	for _, n := range []int{1, 2, 5, 128, Default} {
		for parallelism := 1; parallelism <= n; parallelism++ {
			next := 0
			for subtask := range parallelism {
				r := RangeOf(subtask, parallelism, n)
				if r.First != next || r.Last < r.First {
					t.Fatalf("subtask %d of %d, %d groups: owns %v, want it to begin at %d", subtask, parallelism, n, r, next)
				}
				for g := r.First; g <= r.Last; g++ {
					if o := Owner(g, parallelism, n); o != subtask {
						t.Fatalf("group %d of %d: owner %d, but in the range of %d", g, n, o, subtask)
					}
				}
				next = r.Last + 1
			}
			if next != n {
				t.Fatalf("%d subtasks own %d of %d groups", parallelism, next, n)
			}
		}
	}
}

// hashAs checks HasherOf against xxhash of bytes spelled out by hand.
func hashAs[K comparable](t *testing.T, k K, canonical []byte) {
	t.Helper()
	h, err := HasherOf[K]()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h(&k), xxhash.Sum64(canonical); got != want {
		t.Errorf("hash of %#v is %016x, want %016x (canonical bytes %x)", k, got, want, canonical)
	}
	if n := testing.AllocsPerRun(20, func() { h(&k) }); n != 0 {
		t.Errorf("hash of %#v allocates %v times", k, n)
	}
}

func word(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func TestHashIsThatOfTheCanonicalBytes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	type id string
	type pair struct {
		Origin string
		Day    int32
		_      int64
		Live   bool
	}
	type nested struct {
		Parts [3]pair
		Score float32
	}
	for range 300 {
		v := rng.Uint64() >> (rng.Uint64() & 63)
		hashAs(t, v, word(v))
		hashAs(t, int64(v), word(v))
		hashAs(t, int(v), word(v))
		hashAs(t, time.Duration(v), word(v))
		hashAs(t, int32(v), word(uint64(int64(int32(v)))))
		hashAs(t, uint32(v), word(uint64(uint32(v))))
		hashAs(t, int8(v), word(uint64(int64(int8(v)))))
		hashAs(t, uint16(v), word(uint64(uint16(v))))
		hashAs(t, v&1 == 1, []byte{byte(v & 1)})
		s := strings.Repeat(string(rune('a'+v%26)), rng.IntN(300))
		hashAs(t, s, []byte(s))
		hashAs(t, id(s), []byte(s))
		n := nested{Score: float32(v)}
		var want []byte
		for i := range n.Parts {
			p := pair{Origin: s[:rng.IntN(len(s)+1)], Day: int32(rng.Uint32()), Live: i&1 == 0}
			n.Parts[i] = p
			want = binary.AppendUvarint(want, uint64(len(p.Origin)))
			want = append(want, p.Origin...)
			want = append(want, word(uint64(int64(p.Day)))...)
			if p.Live {
				want = append(want, 1)
			} else {
				want = append(want, 0)
			}
		}
		want = append(want, word(math.Float64bits(float64(n.Score)))...)
		hashAs(t, n, want)
	}
}

func TestFloatsThatAreEqualHashAlike(t *testing.T) {
	hashAs(t, math.Copysign(0, -1), word(0))
	hashAs(t, 0.0, word(0))
	hashAs(t, math.Float64frombits(0x7ff8dead00000001), word(canonicalNaN))
	hashAs(t, float32(1.5), word(math.Float64bits(1.5)))
}

// The vectors of docs/formats/keyhash.md: they never change.
func TestVectors(t *testing.T) {
	vector(t, uint64(0), 0x34c96acdcadb1bbb)
	vector(t, int32(-1), 0x85d136adb773c6c9)
	vector(t, int64(1234567890123), 0xd9d5580c14aa025d)
	vector(t, true, 0x8a4127811b21e730)
	vector(t, 1.5, 0x49f7b96b6b5ccaf9)
	vector(t, "", 0xef46db3751d8e999)
	vector(t, "DTW", 0x3b02e8ca6db38ecf)
	vector(t, struct {
		Origin string
		Day    int32
	}{"DTW", 11323}, 0x90366fb4266682de)
	vector(t, [2]string{"a", "bc"}, 0xa2ab91898938d5fd)
}

func vector[K comparable](t *testing.T, k K, want uint64) {
	t.Helper()
	h, err := HasherOf[K]()
	if err != nil {
		t.Fatal(err)
	}
	if got := h(&k); got != want {
		t.Errorf("hash of %#v is %016x, want %016x", k, got, want)
	}
}

func TestKeysThatCannotBeHashed(t *testing.T) {
	_, a := HasherOf[*int]()
	_, b := HasherOf[struct{ At time.Time }]()
	_, c := HasherOf[struct{ In [2]struct{ P *int } }]()
	_, d := HasherOf[struct {
		A int
		B int `millrace:"-"`
	}]()
	for i, err := range []error{a, b, c, d} {
		var u *UnhashableError
		if !errors.As(err, &u) {
			t.Errorf("case %d: got %v, want an UnhashableError", i, err)
		}
		t.Log(err)
	}
}

func BenchmarkHash(b *testing.B) {
	b.Run("uint64", func(b *testing.B) {
		h, _ := HasherOf[uint64]()
		var sum uint64
		var k uint64
		for b.Loop() {
			k++
			sum += h(&k)
		}
		_ = sum
	})
	b.Run("string", func(b *testing.B) {
		h, _ := HasherOf[string]()
		s := "customer-1234567"
		for b.Loop() {
			h(&s)
		}
	})
	b.Run("struct", func(b *testing.B) {
		type key struct {
			Origin string
			Day    int64
		}
		h, _ := HasherOf[key]()
		k := key{"DTW", 11323}
		for b.Loop() {
			h(&k)
		}
	})
}
