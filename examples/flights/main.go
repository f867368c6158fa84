// Flights is Millrace's example job: how late do flights arrive? It reads
// flights in the order in which they landed, with their scheduled departure as
// event time, and gives per origin airport and day the number of flights and
// the mean, 95th percentile and worst delay. See README.md.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/sdk"
)

func main() { sdk.Main(build) }

func build(env *sdk.Env) error {
	env.Name("flights")
	env.Doc("Delays per origin airport and day of scheduled departure: number of flights,\n" +
		"mean, 95th percentile and worst delay in minutes. On a cluster it reads and\n" +
		"writes streams; by hand it reads a file and prints.")
	env.Parallelism(2)
	bound := env.Duration("out-of-orderness", time.Hour, "how much later than others a flight may land and still count")
	input := env.String("input", "flights", "stream of flights, one CSV line a record")
	output := env.String("output", "delays", "stream of results, one JSON object a record")
	missed := env.String("late", "late", "stream of the lines that came too late to count")
	file := env.String("file", defaultFile(), "file of flights, read instead of streams when run by hand")

	if env.Local() {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("the input: %w: name it with --file, or run from the root of the repository", err)
		}
		src := sdk.From(env, sdk.Files(file, sdk.CSV[Flight](), sdk.Header()))
		results, late := delays(src, bound)
		results.To(sdk.Print(sdk.JSON[Delays]()))
		late.To(sdk.Func(func(f Flight) error {
			_, err := fmt.Fprintln(os.Stderr, "late:", f.Line)
			return err
		})).Named("late-to-stderr")
		return nil
	}
	src := sdk.From(env, shards.Source(input, sdk.CSV[Flight]()))
	results, late := delays(src, bound)
	results.To(shards.Sink(output, sdk.JSON[Delays](), func(d Delays) string { return d.Origin }))
	late.To(shards.Sink(missed, lineOf, func(f Flight) string { return f.Origin }))
	return nil
}

// lineOf writes a flight as the line that it was read from.
var lineOf = sdk.CodecOf(nil, func(dst []byte, f Flight) ([]byte, error) { return append(dst, f.Line...), nil })

// defaultFile finds the committed file from the root of the repository and from
// the example's folder.
func defaultFile() string {
	for _, path := range []string{"examples/flights/flights.csv", "flights.csv"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "examples/flights/flights.csv"
}
