package archtest

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/millrace/millrace"

// room is one row of the table in ARCHITECTURE.md. A path ending in /... covers
// everything below it. A package belongs to the first row that covers it and
// may import its own room, internal leaves, and the rooms named.
type room struct {
	path string
	may  []string
}

var rooms = []room{
	{"proto/...", nil},
	{"blob/...", nil},
	{"cluster/...", nil},
	{"api/...", []string{"proto"}},
	{"checkpoint/...", []string{"blob", "proto"}},
	{"stream/...", []string{"blob", "proto"}},
	{"runtime/...", []string{"checkpoint", "blob", "proto"}},
	{"job/...", []string{"checkpoint", "proto"}},
	{"local/...", []string{"job", "runtime", "checkpoint", "blob", "proto"}},
	{"sdk/...", []string{"runtime", "local", "job", "checkpoint", "blob", "proto"}},
	{"connector/shards/...", []string{"sdk", "stream", "proto"}},
	{"connector/files/...", []string{"sdk", "blob"}},
	{"connector/postgres/...", []string{"sdk"}},
	{"taskmanager/...", []string{"stream", "cluster", "blob", "proto"}},
	{"jobmanager/...", []string{"job", "checkpoint", "stream", "cluster", "blob", "api", "proto"}},
	{"examples/...", []string{"sdk", "connector"}},
	{"internal/chaos/...", []string{"sdk", "connector", "stream", "checkpoint", "blob", "proto"}},
	{"internal/...", []string{"proto"}},
	{"cmd/...", []string{"*"}},
	{"bench/...", []string{"*"}},
}

// otelBelowCmd are the only OpenTelemetry packages that rooms other than cmd
// may link: users link sdk into their own process.
var otelBelowCmd = []string{
	"go.opentelemetry.io/otel/metric",
	"go.opentelemetry.io/otel/trace",
	"go.opentelemetry.io/otel/attribute",
	"go.opentelemetry.io/otel/codes",
}

type pkg struct {
	ImportPath string
	Imports    []string
	Name       string
	Doc        string
	GoFiles    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Name,Doc,GoFiles", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func covers(pattern, path string) bool {
	base, deep := strings.CutSuffix(pattern, "/...")
	return path == base || deep && strings.HasPrefix(path, base+"/")
}

func roomOf(path string) *room {
	for i := range rooms {
		if covers(rooms[i].path, path) {
			return &rooms[i]
		}
	}
	return nil
}

// allowed says whether a package of room r may import the package at path.
func allowed(r *room, path string) bool {
	if covers(r.path, path) || strings.HasPrefix(path, "internal/") {
		return true
	}
	return slices.ContainsFunc(r.may, func(name string) bool {
		return name == "*" || covers(name+"/...", path)
	})
}

func TestArrowsPointDownwards(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		r := roomOf(path)
		if r == nil {
			t.Errorf("%s is in no room: add a row to the table, here and in ARCHITECTURE.md", path)
			continue
		}
		for _, imp := range p.Imports {
			if in, ok := strings.CutPrefix(imp, module+"/"); ok && !allowed(r, in) {
				t.Errorf("%s imports %s: room %s may import %v", path, in, r.path, r.may)
			}
		}
	}
}

// TestThePageDrawsTheSameTable: what ARCHITECTURE.md says of a room is what is
// held to here.
func TestThePageDrawsTheSameTable(t *testing.T) {
	page, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| room | owns | may import |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	// names are the rooms in a cell: what stands in backticks, with what is below.
	names := func(cell string) (all []string) {
		for i, text := range strings.Split(cell, "`") {
			if i%2 == 1 {
				all = append(all, strings.TrimSuffix(strings.TrimSuffix(text, "/*"), "/…"))
			}
		}
		slices.Sort(all)
		return all
	}
	drawn, held := map[string][]string{}, map[string][]string{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, " | ")
		if len(cells) != 3 {
			t.Fatalf("a row of %d cells: %s", len(cells), row)
		}
		may := names(cells[2])
		if strings.HasPrefix(cells[2], "anything") {
			may = []string{"*"}
		}
		drawn[names(cells[0])[0]] = may
	}
	for _, r := range rooms {
		path, _ := strings.CutSuffix(r.path, "/...")
		held[path] = slices.Sorted(slices.Values(r.may))
	}
	if diff := cmp.Diff(held, drawn); diff != "" {
		t.Errorf("rooms and what they may import (-here +ARCHITECTURE.md):\n%s", diff)
	}
}

func TestOpenTelemetrySDKStaysInCmd(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.ImportPath, module+"/cmd/") {
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "go.opentelemetry.io/") {
				continue
			}
			if !slices.ContainsFunc(otelBelowCmd, func(ok string) bool { return imp == ok || strings.HasPrefix(imp, ok+"/") }) {
				t.Errorf("%s imports %s: below cmd only %v", p.ImportPath, imp, otelBelowCmd)
			}
		}
	}
}

// TestUserBinariesStayLight keeps what only servers need out of job binaries.
// Pebble is in them, for state larger than memory (docs/adr/0006), and with it
// what nobody else imports.
func TestUserBinariesStayLight(t *testing.T) {
	const pebble = "github.com/cockroachdb/pebble/v2"
	out, err := exec.Command("go", "list", "-deps", "-f", `{{.ImportPath}}: {{join .Imports " "}}`, module+"/examples/...").Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	imported := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		from, imports, _ := strings.Cut(line, ": ")
		if covers(pebble+"/...", from) {
			continue
		}
		for _, p := range strings.Fields(imports) {
			imported[p] = true
			if p == pebble && from != module+"/runtime/tier" {
				t.Errorf("%s imports Pebble: in a job binary that is for runtime/tier", from)
			}
		}
	}
	for _, banned := range []string{
		"github.com/hashicorp/memberlist", "go.opentelemetry.io/otel/sdk", "github.com/prometheus/client_golang/prometheus",
		"github.com/aws/aws-sdk-go-v2/aws", "github.com/jackc/pgx/v5",
		module + "/jobmanager", module + "/taskmanager", module + "/stream/shardlog",
	} {
		if imported[banned] {
			t.Errorf("a job binary links %s", banned)
		}
	}
}

// TestHeavyConnectorsAreModulesOfTheirOwn: their clients are in no other go.mod,
// and they stand on the sdk as a user's package does.
func TestHeavyConnectorsAreModulesOfTheirOwn(t *testing.T) {
	for folder, client := range map[string]string{"../../connector/postgres": "github.com/jackc/pgx/v5"} {
		if out, err := exec.Command("go", "list", "-m", "all").Output(); err != nil || strings.Contains(string(out), client) {
			t.Errorf("the main module needs %s (%v)", client, err)
		}
		out, err := exec.Command("go", "list", "-C", folder, "-f", "{{join .Imports \"\\n\"}}", "./...").Output()
		if err != nil {
			t.Fatalf("go list in %s: %v", folder, err)
		}
		for path := range strings.FieldsSeq(string(out)) {
			if in, ok := strings.CutPrefix(path, module+"/"); ok && in != "sdk" {
				t.Errorf("%s imports %s: it may import sdk", folder, in)
			}
		}
	}
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" && p.Name != "pbconnect" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// TestTheTableRefuses is the negative control of the table itself.
func TestTheTableRefuses(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"jobmanager/rest", "taskmanager", false},
		{"taskmanager/supervise", "jobmanager", false},
		{"runtime/task", "sdk", false},
		{"blob", "proto/millrace/v1", false},
		{"sdk", "runtime/graph", true},
		{"runtime/task", "internal/clock", true},
		{"examples/flights", "runtime/graph", false},
	} {
		if got := allowed(roomOf(c.from), c.to); got != c.want {
			t.Errorf("%s importing %s: allowed = %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
