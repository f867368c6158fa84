// Archive is an example job that writes files, exactly once: flights as they
// came, a folder a day. See README.md.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/millrace/millrace/connector/files"
	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/sdk"
)

func main() { sdk.Main(build) }

// Flight is one line of the input.
type Flight struct {
	Scheduled   time.Time `csv:"scheduled"`
	Origin      string    `csv:"origin"`
	Destination string    `csv:"destination"`
	DelayMin    int32     `csv:"delay_min"`
	DistanceMi  int32     `csv:"distance_mi"`
}

// day is the folder of a flight.
func (f Flight) day() string { return "day=" + f.Scheduled.UTC().Format(time.DateOnly) }

func build(env *sdk.Env) error {
	env.Name("archive")
	env.Doc("Writes flights to files, a folder a day of scheduled departure, each flight\n" +
		"once whatever is killed. On a cluster it reads a stream; by hand, a file.")
	env.Parallelism(2)
	output := env.String("output", "archive", "folder, the same on every machine, or s3://bucket/prefix?endpoint=host:port&region=r")
	input := env.String("input", "flights", "stream of flights, one CSV line a record")
	file := env.String("file", defaultFile(), "file of flights, read instead of the stream when run by hand")
	// Each checkpoint ends the files that are open: this is how often new ones
	// appear.
	env.CheckpointEvery(env.Duration("every", 10*time.Second, "how often files are completed"))
	zip := env.Bool("gzip", true, "compress the files")

	var src sdk.DataStream[Flight]
	if env.Local() {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("the input: %w: name it with --file, or run from the root of the repository", err)
		}
		src = sdk.From(env, sdk.Files(file, sdk.CSV[Flight](), sdk.Header()))
	} else {
		src = sdk.From(env, shards.Source(input, sdk.CSV[Flight]()))
	}
	archive := files.Sink(output, files.CSV[Flight]()).PartitionBy(Flight.day)
	if zip {
		archive = archive.Gzip()
	}
	src.To(archive).Named("to-archive")
	return nil
}

// defaultFile finds the committed file from the root of the repository and from
// this folder.
func defaultFile() string {
	for _, path := range []string{"examples/flights/flights.csv", "../flights/flights.csv"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "examples/flights/flights.csv"
}
