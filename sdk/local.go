package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/runtime/graph"
)

// exitInterrupted is what shells show for a process that Ctrl-C ended.
const exitInterrupted = 130

// runByHand runs the job inside this process. Its graph is built anew for each
// attempt, as in a worker, so that an operator never sees what another attempt
// left in its closures.
func runByHand(ctx context.Context, build func(*Env) error, hand byHand, stderr io.Writer) int {
	g, err := Plan(build, hand.args, true)
	if err != nil {
		fmt.Fprintln(stderr, err)
		var usage *UsageError
		if errors.As(err, &usage) {
			fmt.Fprintln(stderr, "--help lists the flags")
			return 2
		}
		return 1
	}
	err = local.Run(ctx, local.Config{
		Graph:       func() (*graph.Graph, error) { return Plan(build, hand.args, true) },
		Parallelism: parallelismOf(g, hand.parallelism),
		Log:         slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	switch {
	case err == nil:
		return 0
	case errors.Is(err, local.ErrCanceled):
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "job %s failed: %v\n", g.Name, err)
	return 1
}

// Run runs a job inside this process, as Main does by hand, until its bounded
// sources have ended and its sinks have committed, or ctx ends it. Tests that
// want virtual time use package sdktest.
func Run(ctx context.Context, build func(env *Env) error, args ...string) error {
	g, err := Plan(build, args, true)
	if err != nil {
		return err
	}
	return local.Run(ctx, local.Config{
		Graph:       func() (*graph.Graph, error) { return Plan(build, args, true) },
		Parallelism: parallelismOf(g, 0),
	})
}

// parallelismOf is that of operators that set none: what the run asks for, else
// what the job does.
func parallelismOf(g *graph.Graph, asked int) int {
	if asked > 0 {
		return asked
	}
	return int(g.Config.DefaultParallelism)
}
