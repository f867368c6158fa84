package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binaries is where what the demo shows is built, once.
var binaries string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		if !testing.Short() {
			if err := build(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(binaries)
		}
		return m.Run()
	}())
}

func build() (err error) {
	if binaries, err = os.MkdirTemp("", "millrace-demo-test-"); err != nil {
		return err
	}
	out, err := exec.Command("go", "build", "-o", binaries+"/", "../millrace", "../../examples/flights").CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("go build: %w\n%s", err, out), os.RemoveAll(binaries))
	}
	return nil
}

// showing is a demo in a test, on free ports and with temporary files of its
// own.
type showing struct {
	temp   string
	args   []string
	stderr bytes.Buffer
}

func newShowing(t *testing.T, more ...string) *showing {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	s := &showing{temp: t.TempDir()}
	t.Setenv("TMPDIR", s.temp)
	t.Setenv("MILLRACE_SLOTS", "0") // settings of the user's shell do not reach the demo
	s.args = append([]string{"--millrace", binaries + "/millrace", "--job", binaries + "/flights", "--input", "../../examples/flights/flights.csv",
		"--rest", "127.0.0.1:0", "--kinesis", "127.0.0.1:0", "--pace", "fast"}, more...)
	return s
}

func (s *showing) run(ctx context.Context, stdout io.Writer) int {
	return run(ctx, s.args, stdout, &s.stderr)
}

// left says what is in the folder for temporary files.
func (s *showing) left(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(s.temp + "/*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheWholeDemo(t *testing.T) {
	s := newShowing(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s.args = append(s.args, "--rest", taken.Addr().String())
	var out bytes.Buffer
	if code := s.run(t.Context(), &out); code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, &out, &s.stderr)
	}
	t.Logf("%s", &out)
	if !strings.HasSuffix(out.String(), "\nexactly once: 20000 of 20000\n") {
		t.Error("the last line is another one")
	}
	for _, want := range []string{taken.Addr().String() + " is in use", "*** KILL -9", "*** RECOVERED by itself: noticed", " ms after SIGKILL", "\nsavepoints/"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	if left := s.left(t); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestAWrongCountFails: a CLI that sends one flight for another one. The number
// of flights is right all the same.
func TestAWrongCountFails(t *testing.T) {
	s := newShowing(t)
	forged := s.temp + "/millrace"
	script := fmt.Sprintf(`#!/bin/sh
case "$2" in
put) sed 's/,CLT,GSO,-9,83$/,XXX,GSO,-9,83/' "$5" >"$TMPDIR/forged.csv"
     exec %s stream put flights --file "$TMPDIR/forged.csv" --key origin --rate 5000 ;;
esac
exec %s "$@"
`, s.args[1], s.args[1])
	if err := os.WriteFile(forged, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	s.args = append(s.args, "--millrace", forged)
	var out bytes.Buffer
	code := s.run(t.Context(), &out)
	if code != 1 || strings.Contains(out.String(), "exactly once:") {
		t.Errorf("exit %d, want 1, and no word of exactly once\n%s", code, &out)
	}
	folder := s.left(t)
	for _, want := range []string{"NOT exactly once", "CLT 2001-03-31 lacks 1 flights", "XXX 2001-03-31 has 1 flights too many", "kept for a look: " + s.temp + "/millrace-demo-"} {
		if !strings.Contains(s.stderr.String(), want) {
			t.Errorf("stderr lacks %q (temporary files %v):\n%s", want, folder, &s.stderr)
		}
	}
}

func TestInterruptedItLeavesNothing(t *testing.T) {
	for _, moment := range []string{"stream create", "submitted", "*** KILL", "stop --drain"} {
		t.Run(moment, func(t *testing.T) {
			s := newShowing(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &trigger{word: moment, pull: cancel}
			if code := s.run(ctx, out); code != 130 {
				t.Errorf("exit %d, want 130\n%s\n%s", code, &out.seen, &s.stderr)
			}
			if left := s.left(t); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
			_, after, _ := strings.Cut(out.seen.String(), "REST http://")
			address, _, _ := strings.Cut(after, ",")
			if c, err := net.Dial("tcp", address); err == nil {
				c.Close()
				t.Errorf("the cluster still listens on %s", address)
			}
		})
	}
}

// trigger is pulled when a word is written.
type trigger struct {
	seen bytes.Buffer
	word string
	pull func()
}

func (w *trigger) Write(b []byte) (int, error) {
	w.seen.Write(b)
	if bytes.Contains(b, []byte(w.word)) {
		w.pull()
	}
	return len(b), nil
}

func TestFailuresAreNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no program", []string{"--job", "demo_test.go"}, "submit demo_test.go"},
		{"no file", []string{"--job", "nowhere"}, "submit nowhere"},
		{"no input", []string{"--input", "demo_test.go"}, "demo_test.go: the header is"},
		{"no cluster", []string{"--millrace", "/bin/false"}, "millrace up ended by itself (exit status 1)"},
		{"no CLI", []string{"--millrace", "./nowhere"}, "start ./nowhere up"},
		{"an address of another machine", []string{"--rest", "192.0.2.1:80"}, "--rest 192.0.2.1:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShowing(t, c.args...)
			if code := s.run(t.Context(), io.Discard); code != 1 {
				t.Errorf("exit %d, want 1", code)
			}
			if !strings.Contains(s.stderr.String(), c.want) {
				t.Errorf("stderr is %q, want %q in it", &s.stderr, c.want)
			}
		})
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--pace", "snail"}, io.Discard, &stderr); code != 2 {
		t.Errorf("wrong usage: exit %d, want 2: %s", code, &stderr)
	}
}
