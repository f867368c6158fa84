package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the plan warns of is told to whoever submits the job.
func TestRunShowsWarnings(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "/upload") {
			_, _ = io.WriteString(w, `{"filename":"/x/jar_job"}`)
			return
		}
		_, _ = io.WriteString(w, `{"jobid":"f00d","warnings":["operator \"both\": it keeps the records for ever"]}`)
	}))
	defer server.Close()
	binary := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(binary, []byte("a job"), 0o755); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "run", "--rest", server.URL, "--detach", binary)
	if code != 0 || out != "job f00d submitted\n" || errs != "warning: operator \"both\": it keeps the records for ever\n" {
		t.Errorf("exit %d, out %q, err %q", code, out, errs)
	}
}

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
