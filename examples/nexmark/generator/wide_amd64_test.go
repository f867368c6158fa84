package generator

import (
	"math/rand/v2"
	"testing"
)

// narrowly runs a test without the wide instructions.
func narrowly(t *testing.T, test func(*testing.T)) {
	had := wide
	defer func() { wide = had }()
	wide = false
	test(t)
}

func TestEventsAreTheSameWithoutWideInstructions(t *testing.T) {
	narrowly(t, TestLinesAreThoseOfTheVectors)
	narrowly(t, TestSumsOfLinesAreThoseOfTheVectors)
}

// TestWideDrawsAndLettersAreThoseOfOneByOne compares them for random states, and
// looks at what is around a text.
func TestWideDrawsAndLettersAreThoseOfOneByOne(t *testing.T) {
	if !wide {
		t.Skip("this machine has no wide instructions")
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		e, k, n := rng.Uint64(), rng.Uint64N(200), 1+rng.IntN(5*block)
		step, count := rng.Uint64(), 1+rng.IntN(lanes)
		type made struct {
			run  run
			text [7 * block]byte
		}
		making := func() (m made) {
			m.run.begin(e, step, count)
			clear(m.run.states[count:])
			write(m.text[1:], e, k, n)
			clear(m.text[1+n:][:block]) // whatever the last block needs
			return m
		}
		var want made
		got := making()
		narrowly(t, func(*testing.T) { want = making() })
		if got != want {
			t.Fatalf("seed %d, %d events from %x by %x, %d letters from draw %d:\ngot  %x %q\nwant %x %q", seed, count, e, step, n, k,
				got.run, got.text[:n+1], want.run, want.text[:n+1])
		}
	}
}
