// Command demo shows Millrace at work: it starts a cluster in a temporary
// folder, sends 20,000 real flights to a stream, runs the flights job on them,
// kills the job's worker half-way, and adds up what came out. Everything goes
// through public interfaces: the CLI, REST, and the Kinesis API.
//
// It exits 0 if, and only if, each flight was counted exactly once. Whatever
// happens, the processes that it started end with it; the folder is removed,
// or kept after a failure, with a line that says where it is.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// The parent-death signal of children goes by the thread that started them:
// main's lives as long as the process.
func init() { runtime.LockOSThread() }

// config is the command line.
type config struct {
	millrace, job, input string
	rest, kinesis        string
	pace                 string
}

// rates are the flights a second of each pace.
var rates = map[string]int{"show": 1250, "fast": 5000}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c config
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&c.millrace, "millrace", "bin/millrace", "the CLI")
	f.StringVar(&c.job, "job", "bin/flights", "the job's binary")
	f.StringVar(&c.input, "input", "examples/flights/flights.csv", "the flights")
	f.StringVar(&c.rest, "rest", "127.0.0.1:8081", "address of the REST API; another port is taken where it is in use")
	f.StringVar(&c.kinesis, "kinesis", "127.0.0.1:4567", "address of the Kinesis API; another port is taken where it is in use")
	f.StringVar(&c.pace, "pace", "show", "show: slow enough to watch; fast")
	if f.Parse(args) != nil {
		return 2
	}
	if rates[c.pace] == 0 || f.NArg() > 0 {
		fmt.Fprintln(stderr, "demo: --pace is show or fast, and there are no arguments (demo --help)")
		return 2
	}
	err := demonstrate(ctx, c, newScreen(stdout))
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "demo: interrupted; its processes have ended and its folder is removed")
		return 130
	case err != nil:
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}
