// Misfit is a job with a fault of the user's choice: in its build function, in
// its plan, or in what it makes of a stream of whole numbers.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/sdk"
)

func main() { sdk.Main(build) }

var errNoAirport = errors.New("no airport is open")

func build(env *sdk.Env) error {
	fault := env.String("fault", "", "what goes wrong")
	input := env.String("input", "numbers", "stream of whole numbers, a record each")
	output := env.String("output", "doubled", "stream of the numbers' doubles")
	marker := env.String("marker", "", "file that a fault makes, and that keeps it from coming again")
	attempts := env.Int("attempts", 2, "restarts in a row before the job gives up")
	env.Name("misfit")
	env.Parallelism(1)
	env.Restart(sdk.RestartAfter(10*time.Millisecond, attempts))

	name := "double"
	switch fault {
	case "build-error":
		return fmt.Errorf("open runways: %w", errNoAirport)
	case "build-panic":
		var none map[string]int
		none["runways"]++
	case "build-hangs":
		select {}
	case "clock":
		name = fmt.Sprintf("double-%d", time.Now().UnixNano())
	case "map-order":
		many := map[int]bool{}
		for i := range 100 {
			many[i] = true
		}
		for i := range many {
			name += strconv.Itoa(i) + "."
		}
		name = name[:100]
	case "long-name":
		env.Name(strings.Repeat("long", 100))
	}

	letters := sdk.NewTag[sdk.Record]("letters")
	var opts []sdk.FromOption
	switch fault {
	case "skip":
		opts = append(opts, sdk.SkipUndecodable())
	case "dead-letters":
		opts = append(opts, sdk.DeadLetters(letters))
	}
	numbers := sdk.From(env, shards.Source(input, sdk.JSON[int]()), opts...).Named("numbers")
	if fault == "dead-letters" {
		numbers.Side(letters).To(shards.Sink("letters", sdk.JSON[sdk.Record](), func(r sdk.Record) string { return r.Key }))
	}
	numbers.TryMap(func(n int) (int, error) {
		switch {
		case fault == "function-error" && n == 13:
			return 0, fmt.Errorf("double %d: %w", n, errNoAirport)
		case fault == "function-panic" && n == 13:
			return 0, overflow(nil)
		case fault == "hang" && n == 13 && first(marker):
			waitForATower()
		case fault == "hog" && n == 13 && first(marker):
			hog()
		}
		return 2 * n, nil
	}).Named(name).To(shards.Sink(output, sdk.JSON[int](), strconv.Itoa))
	return nil
}

// overflow panics when it gets nothing.
func overflow(n *int) error { return fmt.Errorf("%d", *n) }

// first makes a file and says whether it was not there before.
func first(marker string) bool {
	f, err := os.OpenFile(marker, os.O_CREATE|os.O_EXCL, 0o600)
	return err == nil && f.Close() == nil
}

// waitForATower never returns, with its context or without.
func waitForATower() { select {} }

var fuel [][]byte

// hog takes memory until it is stopped.
func hog() {
	for {
		more := make([]byte, 16<<20)
		for i := 0; i < len(more); i += 4096 {
			more[i] = 1
		}
		fuel = append(fuel, more)
		if len(fuel) > 32 {
			time.Sleep(time.Second) // half a gigabyte is more than its slot has
		}
	}
}
