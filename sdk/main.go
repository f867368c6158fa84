package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/launch"
)

// Main is the main function of a job's binary; it does not return.
//
//	func main() { sdk.Main(build) }
//
// Started by a cluster, the binary plans its job or runs subtasks of it.
// Started by hand it runs the whole job inside its own process, until bounded
// sources end or Ctrl-C; then it takes -p N (--parallelism N) besides the job's
// own flags and --batch (Env.Batch), and --help, which prints them. It exits with 0 when the job has
// finished, 1 when it failed, 2 when its arguments are wrong, and 130 after
// Ctrl-C.
func Main(build func(env *Env) error) {
	os.Exit(run(build, os.Args[1:], os.Stdout, os.Stderr))
}

func run(build func(*Env) error, args []string, stdout, stderr io.Writer) int {
	if launch.Mode() != "" {
		return launch.Run(func() (*graph.Graph, error) { return plan(newEnv(args, false), build) })
	}
	hand, err := splitArgs(args)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if hand.help {
		help(newEnv(hand.args, true), build, stdout)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return runByHand(ctx, build, hand, stderr)
}

// Plan makes the graph of a job from its build function and arguments, with all
// that plan mode checks: what tests and tools need of a job without running it.
// local says what Env.Local answers.
func Plan(build func(env *Env) error, args []string, local bool) (*graph.Graph, error) {
	return plan(newEnv(args, local), build)
}

func plan(env *Env, build func(*Env) error) (g *graph.Graph, err error) {
	if err := env.build(build); err != nil {
		return nil, err
	}
	if env.g.Name == "" {
		env.g.Name = binaryName()
	}
	return env.g, nil
}

// build runs the job's build function and checks what it made. Errors in the
// arguments come first: they often explain the others.
func (e *Env) build(build func(*Env) error) error {
	err := calling(e, build)
	if flagErr := e.flags.finish(); flagErr != nil && err == nil {
		err = flagErr
	}
	var usage *UsageError
	for _, collected := range e.errs {
		if errors.As(collected, &usage) {
			return usage
		}
	}
	if err != nil {
		return err
	}
	return e.finish()
}

// calling turns a panic of build into an error with its stack.
func calling(e *Env, build func(*Env) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("build panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return build(e)
}

// byHand is what a run by hand was asked for.
type byHand struct {
	args        []string
	parallelism int
	help        bool
}

// splitArgs takes out the flags that a run by hand has besides the job's.
func splitArgs(args []string) (byHand, error) {
	var h byHand
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(args[i], "=")
		switch name {
		case "-h", "-help", "--help":
			h.help = true
		case "-p", "--p", "-parallelism", "--parallelism":
			if !has {
				if i++; i == len(args) {
					return h, &UsageError{fmt.Errorf("flag %s needs a number", name)}
				}
				value = args[i]
			}
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return h, &UsageError{fmt.Errorf("flag %s: %q: it must be a whole number from 1", name, value)}
			}
			h.parallelism = n
		default:
			h.args = append(h.args, args[i])
		}
	}
	return h, nil
}

// help prints what build declares. Its errors do not matter: it may fail for
// want of the arguments that one asks help about.
func help(e *Env, build func(*Env) error, w io.Writer) {
	_ = calling(e, build)
	if e.g.Name == "" {
		e.g.Name = binaryName()
	}
	fmt.Fprintf(w, "%s: a Millrace job\n\n", e.g.Name)
	if e.doc != "" {
		fmt.Fprintf(w, "%s\n\n", strings.TrimSpace(e.doc))
	}
	fmt.Fprintf(w, "Run by hand, in this process:  %s [flags]\nRun on a cluster:              millrace run [-p N] %[1]s [flags]\n\nFlags:\n", filepath.Base(os.Args[0]))
	e.flags.usage(w)
	fmt.Fprintf(w, "  -p, --parallelism n\n        subtasks of each operator, when run by hand (default %d)\n", e.g.Config.DefaultParallelism)
	fmt.Fprintf(w, "  --help\n        prints this\n")
}

// binaryName is the last element of the main package's path: the same in every
// run of the binary, whatever its file is called.
func binaryName() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Path == "" || info.Path == "command-line-arguments" {
		return "job"
	}
	return path.Base(info.Path)
}
