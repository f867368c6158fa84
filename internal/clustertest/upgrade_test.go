//go:build linux

package clustertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// payments are n lines of so many customers in turn, with numbers of so many
// digits; balances what every version makes of them, sorted.
func payments(n, customers, digits int) (lines []string, balances string) {
	count, sum, numbers := map[string]int{}, map[string]int{}, map[string]int{}
	var out []string
	for i := range n {
		number, customer, cents := fmt.Sprintf("%0*d", digits, i), fmt.Sprintf("customer-%d", i%customers), i*37%1000
		lines = append(lines, fmt.Sprintf("%s,%s,%d", number, customer, cents))
		count[customer]++
		sum[customer] += cents
		numbers[customer] += i
		out = append(out, fmt.Sprintf("%s,%s,%d,%d,%d,%d\n", number, customer, count[customer], sum[customer], count[customer], numbers[customer]))
	}
	slices.Sort(out)
	return lines, strings.Join(out, "")
}

// customers are those of the upgraded job.
const customers = 17

// TestUpgrade replaces a running job by a version whose state has other fields:
// its output is as if nothing had been. A version that cannot go on is refused
// while the job runs on, and loses nothing. On the way the savepoint is looked
// into, with a cluster and without.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	up, r, at := startUp(t, data)
	for _, stream := range []string{"payments", "balances"} {
		mustRun(t, "stream", "create", stream, "--shards", "2", "--kinesis", up.ready["kinesis"])
	}
	lines, want := payments(4000, customers, 1)
	input := &feeder{at: at, stream: contentsOf(at, "payments"), key: origin}
	put := func(from, to int) {
		t.Helper()
		if err := input.put(t.Context(), lines[from:to]); err != nil {
			t.Fatal(err)
		}
	}
	rest := []string{"--rest", r.address()}
	cli := func(args ...string) []string { return append(args, rest...) }
	v1 := submitted(t, mustRun(t, append(cli("run"), "-p", "2", binary("accounts1"), "--name", "books")...))
	put(0, 1000)
	awaitTaken(t, r, v1, 1000)

	// What does not fit is told field by field, and nothing stops.
	says := []string{`state "account" of operator "book"`, "value.Sum was int32 and is string"}
	mustFail(t, 1, says, cli("check", binary("accounts3"), "--against", "books")...)
	mustFail(t, 1, append(says, "books goes on as it was"), cli("upgrade", "books", binary("accounts3"))...)
	if s := jobs(t, r)[v1]; s != "RUNNING" || len(jobs(t, r)) != 1 {
		t.Fatalf("jobs after a refused upgrade: %v", jobs(t, r))
	}
	put(1000, 2000)
	awaitTaken(t, r, v1, 2000)

	out := mustRun(t, cli("check", binary("accounts2"), "--against", v1, "-o", "json")...)
	var verdict struct{ Compatible bool }
	if err := json.Unmarshal([]byte(out), &verdict); err != nil || !verdict.Compatible {
		t.Fatalf("check: %v, %s", err, out)
	}
	out = mustRun(t, cli("upgrade", "books", binary("accounts2"), "-o", "json")...)
	var upgraded struct{ Job, Savepoint string }
	if err := json.Unmarshal([]byte(out), &upgraded); err != nil || upgraded.Job == "" || upgraded.Savepoint == "" {
		t.Fatalf("upgrade: %v, %s", err, out)
	}
	r.awaitState(t, v1, "FINISHED")
	put(2000, 3000)
	mustFail(t, 1, says[:1], append(cli("run", "--from", upgraded.Savepoint), binary("accounts3"))...)
	put(3000, 4000)
	inspectIt(t, data, upgraded.Savepoint, rest)
	drain(t, r, upgraded.Job)
	same(t, "balances", want, readAll(t, at, "balances").sorted())

	// The new version goes on with the old one's arguments and its lineage.
	after := lastLine(mustRun(t, append([]string{"savepoint", "list"}, rest...)...))
	if len(strings.Fields(after)) == 0 {
		t.Fatal("no savepoint is known")
	}
	var all struct {
		Savepoints []struct {
			Job  string `json:"job-id"`
			Path string
		}
	}
	if err := json.Unmarshal([]byte(mustRun(t, cli("savepoint", "list", "-o", "json")...)), &all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all.Savepoints {
		var sum struct {
			Lineage string `json:"lineage"`
			Name    string `json:"job-name"`
		}
		if err := json.Unmarshal([]byte(mustRun(t, cli("savepoint", "inspect", s.Path, "-o", "json")...)), &sum); err != nil {
			t.Fatal(err)
		}
		if sum.Lineage != v1 || sum.Name != "books" {
			t.Errorf("savepoint %s has lineage %s, name %s; want %s, books", s.Path, sum.Lineage, sum.Name, v1)
		}
	}
}

// inspectIt reads the savepoint of v1 at 2000 payments, over REST and from the
// bucket, and then with a bit flipped.
func inspectIt(t *testing.T, data, path string, rest []string) {
	t.Helper()
	bucket := filepath.Join(data, "bucket")
	for what, where := range map[string][]string{"a cluster": rest, "a folder": {"--bucket", bucket}} {
		cli := func(args ...string) string { return mustRun(t, append(args, where...)...) }
		one := cli("savepoint", "inspect", path, "--state", "book/account", "--key", "customer-3", "-o", "json")
		if want := `{"state":"account","kind":"value","key":"customer-3","value":{"Count":118,"Sum":` + sumOf(2000, 3) + `,"Gone":"1992"}}` + "\n"; one != want {
			t.Errorf("inspect by %s: %s, want %s", what, one, want)
		}
		rows := strings.Count(cli("savepoint", "inspect", path, "--state", "book", "-o", "csv", "--limit", "0"), "\n")
		if rows != 1+customers+2000 {
			t.Errorf("inspect by %s: %d lines, want a heading, %d accounts and 2000 numbers", what, rows, customers)
		}
		if out := cli("savepoint", "verify", path); !strings.HasSuffix(out, "sound\n") {
			t.Errorf("verify by %s: %s", what, out)
		}
		if out := cli("savepoint", "inspect", path); !strings.Contains(out, "{Count int32,Sum int32,Gone string}") || !strings.Contains(out, "payments") {
			t.Errorf("inspect by %s: %s", what, out)
		}
	}
	objects, err := filepath.Glob(filepath.Join(bucket, path, "*"))
	if err != nil || len(objects) == 0 {
		t.Fatalf("objects of %s: %v, %v", path, objects, err)
	}
	object := objects[0]
	whole, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(whole)
	bad[len(bad)/2] ^= 4
	if err := os.WriteFile(object, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, where := range [][]string{rest, {"--bucket", bucket}} {
		args := append([]string{"savepoint", "verify", path}, where...)
		if out := mustFail(t, 1, []string{"is damaged"}, args...); !strings.Contains(out, filepath.Base(object)) || !strings.Contains(out, "offset ") {
			t.Errorf("verify of a flipped bit: %s", out)
		}
	}
	if err := os.WriteFile(object, whole, 0o644); err != nil {
		t.Fatal(err)
	}
}

// sumOf is the balance of a customer after so many payments.
func sumOf(n, customer int) string {
	sum := 0
	for i := customer; i < n; i += customers {
		sum += i * 37 % 1000
	}
	return fmt.Sprint(sum)
}
