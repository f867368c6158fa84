package sdk

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String declares a flag of the job and returns its value. Flags are read from
// the job's own arguments: those behind `millrace run ./job --`, or those of
// the command line when the job is run by hand. They are frozen when the job is
// submitted, so every worker of every restart sees the same.
//
// A flag is written -name value, --name value or --name=value. Its value is
// known at once, so build may branch on it. Arguments that no flag of the job
// takes are an error, reported after build. --help prints the flags.
func (e *Env) String(name, value, usage string) string {
	v := stringValue(value)
	e.Var(&v, name, usage)
	return string(v)
}

// Int declares a whole number; see String.
func (e *Env) Int(name string, value int, usage string) int {
	v := intValue(value)
	e.Var(&v, name, usage)
	return int(v)
}

// Float declares a number; see String.
func (e *Env) Float(name string, value float64, usage string) float64 {
	v := floatValue(value)
	e.Var(&v, name, usage)
	return float64(v)
}

// Bool declares a switch: --name, or --name=false; see String.
func (e *Env) Bool(name string, value bool, usage string) bool {
	v := boolValue(value)
	e.Var(&v, name, usage)
	return bool(v)
}

// Duration declares a time span such as 90s or 1h30m; see String.
func (e *Env) Duration(name string, value time.Duration, usage string) time.Duration {
	v := durationValue(value)
	e.Var(&v, name, usage)
	return time.Duration(v)
}

// Var declares a flag of any type; value holds its default and is set before
// Var returns. See String.
func (e *Env) Var(value flag.Value, name, usage string) {
	if reserved[name] {
		e.fail(fmt.Errorf("flag --%s is Millrace's own: choose another name", name))
		return
	}
	if e.flags.set.Lookup(name) != nil {
		e.fail(fmt.Errorf("flag --%s is declared twice", name))
		return
	}
	e.flags.set.Var(value, name, usage)
	for _, given := range e.flags.given(name, isSwitch(value)) {
		if err := value.Set(given); err != nil {
			e.fail(&UsageError{fmt.Errorf("flag --%s: %q: %w", name, given, err)})
			return
		}
	}
}

// UsageError is an error in the arguments of the job. Main exits with status
// 2 for it.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// ErrorCode is the error's code in the cluster's catalogue.
func (e *UsageError) ErrorCode() string { return "arguments-invalid" }

// reserved are the flags that Main itself takes by hand, and that of every job.
var reserved = map[string]bool{"help": true, "h": true, "p": true, "parallelism": true, batchFlag: true}

// flags reads arguments while flags are still being declared: each declaration
// looks for its own, and finish parses everything once more, strictly.
type flags struct {
	set  *flag.FlagSet
	args []string
}

func newFlags(args []string) *flags {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	return &flags{set: set, args: args}
}

// given returns the values that the arguments give a flag.
func (f *flags) given(name string, isSwitch bool) []string {
	var values []string
	for i := 0; i < len(f.args) && f.args[i] != "--"; i++ {
		arg, ok := strings.CutPrefix(f.args[i], "-")
		if !ok {
			continue
		}
		key, value, has := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		switch {
		case key != name:
		case has:
			values = append(values, value)
		case isSwitch:
			values = append(values, "true")
		case i+1 < len(f.args):
			i++
			values = append(values, f.args[i])
		}
	}
	return values
}

// finish refuses arguments that no declared flag takes. A strict parse must give
// each flag what its declaration found: it differs only where a value looks like
// another flag, as in --name --other.
func (f *flags) finish() error {
	strict := flag.NewFlagSet("", flag.ContinueOnError)
	strict.SetOutput(io.Discard)
	f.set.VisitAll(func(g *flag.Flag) { strict.Var(&recorder{isSwitch: isSwitch(g.Value)}, g.Name, "") })
	if err := strict.Parse(f.args); err != nil {
		return &UsageError{fmt.Errorf("%w", err)}
	}
	if strict.NArg() > 0 {
		return &UsageError{fmt.Errorf("unexpected argument %q", strict.Arg(0))}
	}
	var err error
	strict.VisitAll(func(g *flag.Flag) {
		if r := g.Value.(*recorder); !slices.Equal(r.values, f.given(g.Name, r.isSwitch)) {
			err = &UsageError{fmt.Errorf("flag --%s: the value of another flag looks like it: write --flag=value", g.Name)}
		}
	})
	return err
}

// recorder keeps what a flag is given.
type recorder struct {
	isSwitch bool
	values   []string
}

func (r *recorder) Set(s string) error { r.values = append(r.values, s); return nil }
func (r *recorder) String() string     { return "" }
func (r *recorder) IsBoolFlag() bool   { return r.isSwitch }

// usage prints the flags, one a line.
func (f *flags) usage(w io.Writer) {
	f.set.VisitAll(func(g *flag.Flag) {
		fmt.Fprintf(w, "  --%s%s\n        %s", g.Name, kindOf(g.Value), g.Usage)
		if g.DefValue != "" && g.DefValue != "false" {
			fmt.Fprintf(w, " (default %s)", g.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// kindOf is what --help shows as the value of a flag.
func kindOf(v flag.Value) string {
	switch v.(type) {
	case *stringValue:
		return " string"
	case *intValue:
		return " int"
	case *floatValue:
		return " float"
	case *durationValue:
		return " duration"
	case *boolValue:
		return ""
	}
	return " value"
}

func isSwitch(v flag.Value) bool {
	b, ok := v.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

type (
	stringValue   string
	intValue      int
	floatValue    float64
	boolValue     bool
	durationValue time.Duration
)

func (v *stringValue) Set(s string) error { *v = stringValue(s); return nil }
func (v *stringValue) String() string     { return string(*v) }

func (v *intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return errors.New("no whole number")
	}
	*v = intValue(n)
	return nil
}
func (v *intValue) String() string { return strconv.Itoa(int(*v)) }

func (v *floatValue) Set(s string) error {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return errors.New("no number")
	}
	*v = floatValue(n)
	return nil
}
func (v *floatValue) String() string { return strconv.FormatFloat(float64(*v), 'g', -1, 64) }

func (v *boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("neither true nor false")
	}
	*v = boolValue(b)
	return nil
}
func (v *boolValue) String() string   { return strconv.FormatBool(bool(*v)) }
func (v *boolValue) IsBoolFlag() bool { return true }

func (v *durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("no time span such as 90s or 1h30m")
	}
	*v = durationValue(d)
	return nil
}
func (v *durationValue) String() string { return time.Duration(*v).String() }
