// Command millrace runs and operates Millrace: the whole cluster in one process
// (up), its parts (jobmanager, taskmanager), jobs and streams.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 out of time. Errors go to
// stderr and say what to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/examples/nexmark"
	"github.com/millrace/millrace/runtime/launch"
	"github.com/millrace/millrace/sdk"
)

// version is set when the program is linked (Makefile).
var version = "dev"

// Exit codes.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitTimeout = 3
)

// errTimeout marks an error as out of time.
var errTimeout = errors.New("out of time")

// usageError is wrong usage that only running the command could find.
type usageError struct{ error }

// cli is the command line. Flags are also environment variables MILLRACE_NAME.
type cli struct {
	Up          upCmd          `cmd:"" help:"Run job manager, task manager, streams and both APIs in one process."`
	Jobmanager  jobmanagerCmd  `cmd:"" help:"Run a job manager."`
	Taskmanager taskmanagerCmd `cmd:"" help:"Run a task manager."`

	Run       runCmd       `cmd:"" help:"Submit a job binary."`
	Rescale   rescaleCmd   `cmd:"" help:"Change the parallelism of a running job."`
	List      listCmd      `cmd:"" help:"List jobs."`
	Describe  describeCmd  `cmd:"" help:"Show a job: vertices, checkpoints, failures."`
	Cancel    cancelCmd    `cmd:"" help:"Cancel a job, without a savepoint."`
	Stop      stopCmd      `cmd:"" help:"Stop a job with a savepoint."`
	Savepoint savepointCmd `cmd:"" help:"Take, list, inspect, verify and dispose of savepoints."`
	Check     checkCmd     `cmd:"" help:"Say whether a new binary can go on with a savepoint or a job."`
	Upgrade   upgradeCmd   `cmd:"" help:"Replace a running job by a new version of its binary."`
	Logs      logsCmd      `cmd:"" help:"Print the logs of a job's workers."`

	Bench benchCmd `cmd:"" help:"Measure what this machine does with Millrace."`

	Stream streamCmd `cmd:"" help:"Create, fill, read and delete streams."`

	Version kong.VersionFlag `help:"Print the version."`
}

func main() {
	// A task manager has started this executable as a job: the one that bench
	// submits it as.
	if launch.Mode() != "" {
		sdk.Main(nexmark.Build)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("millrace"),
		kong.Description("Streams and exactly-once jobs in Go. Start with: millrace up"),
		kong.Vars{"version": version},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "millrace:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help or --version has been answered
	}
	if err != nil {
		fmt.Fprintf(stderr, "millrace: %v\nSee: millrace --help\n", err)
		return exitUsage
	}
	k.BindTo(ctx, (*context.Context)(nil))
	k.Bind(&console{out: stdout, err: stderr})
	return exitCode(k.Run(), stderr)
}

func exitCode(err error, stderr io.Writer) int {
	var usage usageError
	var known *api.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &known):
		fmt.Fprintln(stderr, "millrace:", known.Text())
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "millrace:", err)
		return exitUsage
	case errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded):
		fmt.Fprintln(stderr, "millrace:", err)
		return exitTimeout
	}
	fmt.Fprintln(stderr, "millrace:", err)
	return exitFailed
}
