package rig

import (
	"bufio"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A tree of processes: the test, a shell, and a child of the shell that works
// and ends before the shell does.
func TestUsageCountsWhoHasEnded(t *testing.T) {
	const work = `i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done`
	sh := exec.Command("sh", "-c", `sh -c '`+work+`'; echo worked; read stop; true`)
	stdin, err := sh.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := sh.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	before, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ended, err := UsageOf(sh.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if ended.Processes != 1 || ended.CPU < 20*time.Millisecond || ended.Resident == 0 {
		t.Errorf("the shell has used %+v, of which its child worked for a while", ended)
	}
	both, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if both.Processes != before.Processes+1 || both.CPU < before.CPU+ended.CPU || both.Resident <= ended.Resident {
		t.Errorf("before %+v, with a shell that used %+v: %+v", before, ended, both)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sh.Wait(); err != nil {
		t.Fatal(err)
	}
	after, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after.Processes != before.Processes || after.CPU < before.CPU+ended.CPU {
		t.Errorf("before %+v, after a shell that used %+v: %+v", before, ended, after)
	}
	if u, err := UsageOf(sh.Process.Pid); err == nil {
		t.Errorf("a process that is gone uses %+v", u)
	}
}

func TestParseStat(t *testing.T) {
	const line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 20 5 20 0 9 0 77 1000000 250 18446744073709551615 1 1"
	got, err := parseStat([]byte(line))
	want := processStat{pid: 7, parent: 3, own: 2 * time.Second, reaped: 250 * time.Millisecond, pages: 250}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "7 (a) S 3", "x" + line, "7 (a) S x 7 7 0 -1 4194560 1 2 3 4 150 50 20 5 20 0 9 0 77 1000000 250"} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}
