package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/sdk"
)

// Flight is one line of the input.
type Flight struct {
	Scheduled   time.Time `csv:"scheduled"`
	Origin      string    `csv:"origin"`
	Destination string    `csv:"destination"`
	DelayMin    int32     `csv:"delay_min"`
	DistanceMi  int32     `csv:"distance_mi"`
	// Line is the line as it came.
	Line string `csv:",line"`
}

// Delays is the result for one origin and day. Minutes; early flights count
// with negative delays.
type Delays struct {
	Origin  string `json:"origin"`
	Day     string `json:"day"`
	Flights int    `json:"flights"`
	Mean    Tenths `json:"mean"`
	P95     int32  `json:"p95"`
	Worst   int32  `json:"worst"`
}

// delays is the job between its source and its sinks. late is what landed more
// than bound after later scheduled flights, and so after its day was counted.
func delays(flights sdk.DataStream[Flight], bound time.Duration) (results sdk.DataStream[Delays], late sdk.DataStream[Flight]) {
	tooLate := sdk.NewTag[Flight]("late")
	results = flights.
		WithTimestamps(sdk.BoundedOutOfOrderness(bound, func(f Flight) time.Time { return f.Scheduled })).
		KeyBy(func(f Flight) string { return f.Origin }).
		Window(sdk.Tumbling(24*time.Hour)).
		Late(tooLate).
		Aggregate("delays per origin and day", delaysOfDay, summary)
	return results, results.Side(tooLate)
}

// delaysOfDay collects the delays of one origin and day: a percentile needs all
// of them.
var delaysOfDay = sdk.Aggregate[Flight, []int32]{
	New:   func() []int32 { return nil },
	Add:   func(acc *[]int32, f Flight) { *acc = append(*acc, f.DelayMin) },
	Merge: func(a, b *[]int32) { *a = append(*a, *b...) },
}

func summary(day sdk.Window, origin string, delays []int32) Delays {
	sorted := slices.Sorted(slices.Values(delays))
	n, sum := len(sorted), int64(0)
	for _, d := range sorted {
		sum += int64(d)
	}
	return Delays{
		Origin:  origin,
		Day:     day.Start.Format(time.DateOnly),
		Flights: n,
		Mean:    meanOf(sum, int64(n)),
		P95:     sorted[(95*n+99)/100-1], // nearest rank: the ⌈0.95 n⌉th smallest
		Worst:   sorted[n-1],
	}
}

// Tenths is a number with one decimal, in tenths: -33 is -3.3. In JSON it is a
// number that always shows its decimal: -3.3, 5.0.
type Tenths int64

// meanOf is sum ÷ n, rounded to tenths half away from zero, in whole numbers:
// exact, whatever the order of the flights.
func meanOf(sum, n int64) Tenths {
	half := n
	if sum < 0 {
		half = -n
	}
	return Tenths((20*sum + half) / (2 * n))
}

// MarshalJSON implements json.Marshaler.
func (t Tenths) MarshalJSON() ([]byte, error) {
	sign := ""
	if t < 0 {
		sign, t = "-", -t
	}
	return fmt.Appendf(nil, "%s%d.%d", sign, t/10, t%10), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Tenths) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return err
	}
	if f *= 10; f < 0 {
		*t = Tenths(f - 0.5)
	} else {
		*t = Tenths(f + 0.5)
	}
	return nil
}
