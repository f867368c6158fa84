package sdk

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/launch"
)

func TestFlagsHaveTheirValuesInsideBuild(t *testing.T) {
	e := newEnv([]string{"--bound=90s", "-n", "-3", "--verbose", "--name", "a=b", "--rate", "0.5", "-n=4"}, true)
	if d := e.Duration("bound", time.Hour, ""); d != 90*time.Second {
		t.Errorf("bound %v", d)
	}
	if n := e.Int("n", 1, ""); n != 4 {
		t.Errorf("n %d, want the last one given", n)
	}
	if !e.Bool("verbose", false, "") || e.String("name", "", "") != "a=b" || e.Float("rate", 1, "") != 0.5 {
		t.Error("a switch, a string or a number is wrong")
	}
	if s := e.String("absent", "default", ""); s != "default" {
		t.Errorf("absent %q", s)
	}
	if err := errors.Join(append(e.errs, e.flags.finish())...); err != nil {
		t.Error(err)
	}
}

func TestWrongArgumentsAreUsageErrors(t *testing.T) {
	for args, want := range map[string]string{
		"--bond=1h":       "not defined: -bond",
		"--bound":         "needs an argument",
		"--bound soon":    `--bound: "soon": no time span`,
		"stray":           `unexpected argument "stray"`,
		"--name -v":       "looks like it",
		"--bound=1h more": "unexpected argument",
	} {
		e := newEnv(strings.Fields(args), true)
		err := e.build(func(e *Env) error {
			e.Duration("bound", time.Hour, "")
			e.String("name", "", "")
			e.Bool("v", false, "")
			return nil
		})
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("arguments %q: error %v, want a usage error with %q", args, err, want)
		}
		plan := launch.Plan(func() (*graph.Graph, error) { return nil, err }, 1)
		if code := plan.GetError().GetCode(); code != "arguments-invalid" {
			t.Errorf("arguments %q: the plan's error has code %s", args, code)
		}
	}
}

func TestFlagsAreDeclaredOnceAndNotReserved(t *testing.T) {
	e := newEnv(nil, true)
	e.String("a", "", "")
	e.Int("a", 0, "")
	e.Int("p", 0, "")
	if len(e.errs) != 2 {
		t.Errorf("errors %v, want one for the second --a and one for --p", e.errs)
	}
}

func TestHelpPrintsTheJobsFlagsAndExitsWithZero(t *testing.T) {
	build := func(e *Env) error {
		e.Name("orders")
		e.Doc("Counts orders.")
		e.Parallelism(3)
		e.Duration("bound", time.Hour, "how late it may be")
		return errors.New("no file given")
	}
	var out, stderr bytes.Buffer
	if code := run(build, []string{"--help", "--nonsense"}, &out, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit %d, stderr %q", code, &stderr)
	}
	for _, want := range []string{"orders", "Counts orders.", "--bound duration", "default 1h0m0s", "--parallelism", "default 3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, &out)
		}
	}
}

func TestExitCodesByHand(t *testing.T) {
	for args, want := range map[string]int{"--unknown": 2, "-p 0": 2, "-p": 2, "": 1, "--fail": 1} {
		var stderr bytes.Buffer
		got := run(func(e *Env) error {
			if e.Bool("fail", false, "") {
				return errors.New("build does not like it")
			}
			return nil
		}, strings.Fields(args), &stderr, &stderr)
		if got != want {
			t.Errorf("arguments %q: exit %d, want %d (%s)", args, got, want, &stderr)
		}
	}
}
