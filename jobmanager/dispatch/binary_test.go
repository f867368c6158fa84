package dispatch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/api"
)

func TestCheckExecutable(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	elf, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	patched := func(at int, b ...byte) []byte {
		data := append([]byte(nil), elf...)
		copy(data[at:], b)
		return data
	}
	for _, tt := range []struct {
		name string
		data []byte
		code api.Code
	}{
		{"this test", elf, ""},
		{"a script", []byte("#!/bin/sh\necho hello\n"), api.BinaryNotExecutable},
		{"nothing", nil, api.BinaryNotExecutable},
		{"a header alone", elf[:20], api.BinaryNotExecutable},
		{"another machine", patched(18, 0x15, 0)[:1<<12], api.BinaryNotExecutable}, // sections are gone
		{"an object file", patched(16, 1, 0), api.BinaryNotExecutable},
		{"another operating system", []byte(strings.ReplaceAll(string(elf), "GOOS=linux", "GOOS=plan9")), api.BinaryWrongPlatform},
	} {
		path := filepath.Join(t.TempDir(), "binary")
		if err := os.WriteFile(path, tt.data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := api.CodeOf(checkExecutable(tt.name, f, int64(len(tt.data)))); got != tt.code {
			t.Errorf("%s: code %q, want %q", tt.name, got, tt.code)
		}
		_ = f.Close()
	}
}

func TestJarName(t *testing.T) {
	for name, want := range map[string]string{"job": "job", "/a/b/job.jar": "job.jar", `C:\x\job.exe`: "job.exe"} {
		if got, err := jarName(name); got != want || err != nil {
			t.Errorf("jarName(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, bad := range []string{"", ".", "..", "/", "a b", "a\x00b", "x%2fy", "ü"} {
		if got, err := jarName(bad); api.CodeOf(err) != api.NameInvalid {
			t.Errorf("jarName(%q) = %q, %v", bad, got, err)
		}
	}
}
