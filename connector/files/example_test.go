package files_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/connector/files"
	"github.com/millrace/millrace/sdk"
)

type reading struct {
	Day    string  `csv:"day"`
	Sensor string  `csv:"sensor"`
	Value  float64 `csv:"value"`
}

// A job that writes CSV files, a folder a day.
func ExampleSink() {
	out, err := os.MkdirTemp("", "readings")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(out)
	err = sdk.Run(context.Background(), func(env *sdk.Env) error {
		env.Name("readings")
		sdk.From(env, sdk.Slice(reading{"2001-01-01", "cellar", 21.5}, reading{"2001-01-02", "roof", -3})).
			To(files.Sink(out, files.CSV[reading]()).PartitionBy(func(r reading) string { return "day=" + r.Day }))
		return nil
	})
	if err != nil {
		panic(err)
	}
	parts, _ := filepath.Glob(filepath.Join(out, "day=*", "part-*.csv"))
	for _, part := range parts {
		text, _ := os.ReadFile(part)
		fmt.Printf("%s: %q\n", filepath.Base(filepath.Dir(part)), text)
	}
	// Output:
	// day=2001-01-01: "day,sensor,value\n2001-01-01,cellar,21.5\n"
	// day=2001-01-02: "day,sensor,value\n2001-01-02,roof,-3\n"
}
