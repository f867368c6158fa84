//go:build linux

package clustertest

import (
	byteorder "encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mustFail runs millrace, which has to end with an exit code and to say each
// of some texts on stderr, and returns what it said.
func mustFail(t *testing.T, exit int, texts []string, args ...string) string {
	t.Helper()
	code, out, errs := command(t, args...)
	if code != exit {
		t.Errorf("millrace %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, exit, out, errs)
	}
	for _, text := range texts {
		if !strings.Contains(errs, text) {
			t.Errorf("millrace %s does not say %q, but:\n%s", strings.Join(args, " "), text, errs)
		}
	}
	if strings.Contains(errs, "goroutine ") && !strings.Contains(strings.Join(texts, ""), "goroutine ") {
		t.Errorf("millrace %s shows a stack of its own:\n%s", strings.Join(args, " "), errs)
	}
	return out
}

// foreign is the hello program as another platform's: a copy whose header
// names another machine.
func foreign(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(binary("nosdk"))
	if err != nil {
		t.Fatal(err)
	}
	machine := uint16(183) // EM_AARCH64
	if byteorder.LittleEndian.Uint16(b[18:]) == machine {
		machine = 62 // EM_X86_64
	}
	byteorder.LittleEndian.PutUint16(b[18:], machine)
	return file(t, "foreign", b)
}

// file writes an executable file into a folder of its own.
func file(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadBinariesAreRefused(t *testing.T) {
	t.Parallel()
	up, r, _ := startUp(t, filepath.Join(t.TempDir(), "data"))
	hello, err := os.ReadFile(binary("nosdk"))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	misfit := func(fault string) []string { return []string{binary("misfit"), "--fault", fault} }
	for _, c := range []struct {
		name string
		run  []string
		says []string
		kept bool // the upload itself was fine
	}{
		{"a text file", []string{file(t, "notes.txt", []byte("not a program\n"))}, []string{"notes.txt", "no executable", "go build"}, false},
		{"an empty file", []string{file(t, "nothing", nil)}, []string{"nothing", "no executable", "go build"}, false},
		{"half a binary", []string{file(t, "half", hello[:len(hello)/2])}, []string{"half"}, false},
		{"a file that is not there", []string{filepath.Join(folder, "flights")}, []string{"flights", "no such file"}, false},
		{"a folder", []string{folder}, []string{folder, "not a file", "go build"}, false},
		{"a binary for another platform", []string{foreign(t)}, []string{"foreign", "GOARCH"}, true},
		{"a name that is too long", []string{file(t, strings.Repeat("n", 240), hello)}, []string{"nnn", "Shorten the name"}, false},
		{"a binary without the SDK", []string{binary("nosdk")}, []string{"sdk.Main"}, true},
		{"one that does not even end", []string{binary("nosdk"), "stay"}, []string{"within 2s", "sdk.Main"}, true},
		{"a build that fails", misfit("build-error"), []string{"open runways: no airport is open"}, true},
		{"a build that panics", misfit("build-panic"), []string{"assignment to entry in nil map", "misfit/main.go:", "goroutine "}, true},
		{"a build that hangs", misfit("build-hangs"), []string{"10s"}, true},
		{"a plan that depends on the clock", misfit("clock"), []string{"differ", "no random values, clocks or map order"}, true},
		{"a plan that depends on map order", misfit("map-order"), []string{"differ", "no random values, clocks or map order"}, true},
		{"a job's name that is too long", misfit("long-name"), []string{"name", "longlong"}, true},
		{"an argument that the job does not know", []string{binary("misfit"), "--nonsense"}, []string{"nonsense", "--help"}, true},
		{"an argument of the wrong kind", []string{binary("misfit"), "--attempts", "many"}, []string{"many", "attempts"}, true},
		{"more subtasks than key groups", []string{"-p", "5000", binary("flights")}, []string{"5000", "1024"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := jars(t, r)
			mustFail(t, 1, c.says, append([]string{"run", "--rest", r.address()}, c.run...)...)
			if after := jars(t, r); !c.kept && after != before {
				t.Errorf("%d binaries are kept, %d were before", after, before)
			}
			if all := jobs(t, r); len(all) > 0 {
				t.Errorf("jobs are left: %v", all)
			}
			eventually(t, "no process is left", func() (bool, string) {
				left := up.workers()
				return len(left) == 0, fmt.Sprint(left)
			})
		})
	}
}

// jars counts the binaries that REST lists.
func jars(t *testing.T, r rest) int {
	t.Helper()
	var out struct {
		Files []any `json:"files"`
	}
	if err := r.get(t.Context(), "/jars", &out); err != nil {
		t.Fatal(err)
	}
	return len(out.Files)
}

// jobs are all jobs and their states.
func jobs(t *testing.T, r rest) map[string]string {
	t.Helper()
	var out struct {
		Jobs []struct{ ID, Status string }
	}
	if err := r.get(t.Context(), "/jobs", &out); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, j := range out.Jobs {
		all[j.ID] = j.Status
	}
	return all
}

func TestAnUploadThatIsCutOffLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, r, _ := startUp(t, filepath.Join(dir, "data"))
	body, err := os.ReadFile(binary("flights"))
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	c, err := net.Dial("tcp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head := "--cut\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"flights\"\r\nContent-Type: application/octet-stream\r\n\r\n"
	fmt.Fprintf(c, "POST /v1/jars/upload HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=cut\r\nContent-Length: %d\r\n\r\n%s",
		r.address(), len(head)+len(body)+len("\r\n--cut--\r\n"), head)
	if _, err := c.Write(body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil { // as a client that dies does
		t.Fatal(err)
	}
	answer := make([]byte, 4096)
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(answer)
	if err != nil || !strings.Contains(string(answer[:n]), "upload-incomplete") {
		t.Errorf("the answer to half an upload is %q (%v), want upload-incomplete", answer[:n], err)
	}
	if n := jars(t, r); n != 0 {
		t.Errorf("%d binaries are listed after half an upload", n)
	}
	if after := files(t, dir); after != before {
		t.Errorf("files before the upload:\n%s\nand after:\n%s", before, after)
	}
}

// files lists what a folder holds of uploads: everything but journal and logs,
// which go on meanwhile.
func files(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.Contains(path, "upload") || strings.Contains(path, "binaries") || strings.Contains(path, "jars")) {
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	free := "127.0.0.1:1" // nothing listens there
	for _, c := range []struct {
		name string
		exit int
		args []string
		says []string
	}{
		{"an unknown command", 2, []string{"fly"}, []string{"fly", "--help"}},
		{"an unknown flag", 2, []string{"list", "--fast"}, []string{"--fast", "--help"}},
		{"no binary", 2, []string{"run"}, []string{"binary", "--help"}},
		{"no number", 2, []string{"up", "--slots", "many"}, []string{"--slots", "many"}},
		{"no size", 2, []string{"up", "--slot-memory", "1 elephant"}, []string{"slot-memory", "elephant", "512MiB"}},
		{"a bind for everyone", 2, []string{"taskmanager", "--data", t.TempDir(), "--bind", "0.0.0.0:0"}, []string{"0.0.0.0:0", "--insecure"}},
		{"no cluster", 1, []string{"list", "--rest", free}, []string{free, "does not answer", "millrace up"}},
		{"no stream API", 1, []string{"stream", "list", "--kinesis", free}, []string{free}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mustFail(t, c.exit, c.says, c.args...)
		})
	}
}

func TestWhatIsInUseIsNamed(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	up, r, _ := startUp(t, data, "--bind", "127.0.0.1:0")
	kinesis := strings.TrimPrefix(up.ready["kinesis"], "http://")
	other := filepath.Join(t.TempDir(), "data")
	none := []string{"--rest", "127.0.0.1:0", "--kinesis", "127.0.0.1:0"}
	for i, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"a folder, by up", append([]string{"up", "--data", data}, none...), []string{data, "in use", fmt.Sprint(up.pid()), "--data"}},
		{"a folder, by a task manager", []string{"taskmanager", "--data", data, "--kinesis", "127.0.0.1:0"}, []string{data, "in use", fmt.Sprint(up.pid()), "--data"}},
		{"the port of REST", []string{"up", "--data", other, "--rest", r.address(), "--kinesis", "127.0.0.1:0"}, []string{r.address(), "in use", "port 0"}},
		{"the port of Kinesis", []string{"up", "--data", other, "--rest", "127.0.0.1:0", "--kinesis", kinesis}, []string{kinesis, "in use", "port 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mustFail(t, 1, c.says, c.args...)
			// Whoever came first goes on, and leads.
			mustRun(t, "list", "--rest", r.address())
			mustRun(t, "stream", "create", fmt.Sprint("after-", i), "--kinesis", kinesis)
		})
	}
	t.Run("names", func(t *testing.T) {
		long := strings.Repeat("s", 129)
		mustFail(t, 1, []string{long, "128"}, "stream", "create", long, "--kinesis", kinesis)
		mustRun(t, "stream", "create", "taken", "--kinesis", kinesis)
		mustFail(t, 1, []string{"taken"}, "stream", "create", "taken", "--kinesis", kinesis)
		mustFail(t, 1, []string{"nosuch", "does not exist", "stream create"}, "stream", "tail", "nosuch", "--kinesis", kinesis)
		mustFail(t, 1, []string{"nosuch", "millrace list"}, "describe", "nosuch", "--rest", r.address())
		mustFail(t, 1, []string{"nosuch", "millrace list"}, "cancel", "nosuch", "--rest", r.address())
	})
}
