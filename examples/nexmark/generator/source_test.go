package generator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

// TestSplitsHoldEachEventOnce reads all splits in pieces of random sizes, each
// from where the one before it ended, with another reader.
func TestSplitsHoldEachEventOnce(t *testing.T) {
	for _, c := range []Config{
		{Seed: 7, Rate: 777, Events: 1003},
		{Seed: 7, Rate: 10000, Events: 40},
		{Seed: 7, Rate: 3, Events: 1003, Group: 100},
	} {
		t.Run(fmt.Sprintf("rate %d, %d events, groups of %d", c.Rate, c.Events, c.Group), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(c.Events)))
			src := Source(c)
			splits, err := src.Splits(t.Context(), sdk.SourceEnv{}, nil)
			if err != nil || len(splits) != Splits {
				t.Fatalf("%d splits, %v", len(splits), err)
			}
			lines := make([]string, c.Events)
			for _, split := range splits {
				var position []byte
				latest := int64(0)
				for ended := false; !ended; {
					r, err := src.Open(t.Context(), sdk.SourceEnv{}, split, position)
					if err != nil {
						t.Fatal(err)
					}
					var b sdk.Batch[event.Event]
					status, err := r.Poll(&b, 1+rng.IntN(9))
					if err != nil {
						t.Fatal(err)
					}
					for i, ev := range b.Values {
						if b.Times[i] != ev.Time() {
							t.Errorf("event %d of time %d is stamped %d", ev.Number, ev.Time(), b.Times[i])
						}
						if bound := latest - c.OutOfOrderness().Milliseconds(); ev.Time() < bound {
							t.Errorf("event %d of time %d comes after one of %d", ev.Number, ev.Time(), latest)
						}
						latest = max(latest, ev.Time())
						if lines[ev.Number] != "" {
							t.Errorf("event %d comes twice", ev.Number)
						}
						lines[ev.Number] = string(ev.AppendLine(nil))
					}
					position, ended = r.Position(), status == sdk.ReadEnded
				}
			}
			g := New(c.Seed, c.Rate, NewChannels(c.Seed))
			for n, got := range lines {
				var ev event.Event
				g.Make(&ev, uint64(n), g.Time(uint64(n)))
				if want := string(ev.AppendLine(nil)); got != want {
					t.Fatalf("event %d:\ngot  %s\nwant %s", n, got, want)
				}
			}
		})
	}
}

func TestGroupsAreShuffled(t *testing.T) {
	c := Config{Events: 25, Group: 10}
	var got []int64
	for place := range c.Events {
		got = append(got, c.order(place))
	}
	want := []int64{0, 3, 6, 9, 2, 5, 8, 1, 4, 7, 10, 13, 16, 19, 12, 15, 18, 11, 14, 17, 20, 21, 22, 23, 24}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order of events (-want +got):\n%s", diff)
	}
}

// TestThrottledEventsComeByTheClock reads one split, which holds every 64th of
// 6400 events a second, from a job that begins late.
func TestThrottledEventsComeByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := make(chan struct{}, 1)
		src := Source(Config{Seed: 1, Rate: 1000, Events: 6400, Throttle: 6400})
		splits, err := src.Splits(t.Context(), sdk.SourceEnv{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.Sleep(55 * time.Millisecond)
		again, err := src.Splits(t.Context(), sdk.SourceEnv{}, splits)
		if diff := cmp.Diff(splits, again); diff != "" || err != nil {
			t.Fatalf("splits of a restored job: %v (-want +got):\n%s", err, diff)
		}
		r, err := src.Open(t.Context(), sdk.SourceEnv{Wake: func() { woken <- struct{}{} }}, splits[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		var b sdk.Batch[event.Event]
		var came []int
		for status := sdk.ReadMore; status != sdk.ReadEnded; {
			if status, err = r.Poll(&b, 1000); err != nil {
				t.Fatal(err)
			}
			came = append(came, len(b.Values))
			if at := time.Since(began); int64(len(b.Values)) > at.Milliseconds()/10+1 || int64(len(b.Values)) < at.Milliseconds()/10 {
				t.Fatalf("%d events after %v", len(b.Values), at)
			}
			if status == sdk.ReadWaiting {
				<-woken
			}
		}
		if !slices.Equal(came[:3], []int{6, 7, 8}) || len(b.Values) != 100 {
			t.Errorf("events after each reading: %v", came)
		}
	})
}
