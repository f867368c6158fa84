package main

import (
	"strings"
	"testing"
)

func TestFlagsBehindTheBinaryAreNamed(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--in", "x", "--from=savepoints/1"}, "--from after the binary"},
		{[]string{"-D", "a=b"}, "-D after the binary"},
		{[]string{"--input", "from"}, ""},
	} {
		got := misplaced(c.args)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}
