package nexmark_test

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/examples/nexmark"
	"github.com/millrace/millrace/examples/nexmark/internal/oracle"
	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

// setting is how a query is run.
type setting struct {
	parallelism int
	tiered      bool
	args        []string
}

func (s setting) String() string {
	backend := "memory"
	if s.tiered {
		backend = "tiered"
	}
	return strings.Join(append([]string{fmt.Sprintf("p=%d %s", s.parallelism, backend)}, s.args...), " ")
}

// run runs a query and returns its line of sums.
func (s setting) run(t *testing.T, query string, args ...string) string {
	t.Helper()
	output := t.TempDir()
	sdktest.Run(t, func(env *sdk.Env) error {
		env.Parallelism(s.parallelism)
		if s.tiered {
			env.TieredState(1 << 20)
		}
		return nexmark.Build(env)
	}, slices.Concat([]string{"--query", query, "--hash", "--output", output}, args, s.args)...)
	parts, err := filepath.Glob(filepath.Join(output, "part-*.txt"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("files of sums: %v, %v", parts, err)
	}
	line, err := os.ReadFile(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(line), "\n")
}

// TestEveryQueryGivesTheVectors runs what was published for one seed.
func TestEveryQueryGivesTheVectors(t *testing.T) {
	f, err := os.Open("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, compared := false, map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "## ") {
			in = strings.HasPrefix(s.Text(), "## results: seed 1, rate 10000, N = 100000")
			continue
		}
		query, _, _ := strings.Cut(s.Text(), " ")
		if !in || query == "" || testing.Short() && len(compared) > 3 {
			continue
		}
		compared[query] = true
		t.Run(query, func(t *testing.T) {
			if got := (setting{parallelism: 2}).run(t, query, "--events=100000"); got != s.Text() {
				t.Errorf("got  %s\nwant %s", got, s.Text())
			}
		})
	}
	if want := len(nexmark.Queries()) - 1; len(compared) != want && !testing.Short() { // without q5k
		t.Errorf("%d queries were compared, want %d", len(compared), want)
	}
}

// TestQueriesGiveWhatTheOracleSays runs every query for seeds of which nothing
// was published, at several parallelisms and on both backends.
func TestQueriesGiveWhatTheOracleSays(t *testing.T) {
	for _, c := range []struct {
		seed         uint64
		rate, events int
		setting      setting
	}{
		{math.MaxUint64, 1, 20000, setting{parallelism: 8}},
		{17, 500, 20000, setting{parallelism: 4, args: []string{"--out-of-order=100"}}},
		{99, 1_000_000, 20000, setting{parallelism: 1, tiered: true}},
	} {
		if testing.Short() {
			c.events = 2000
		}
		in := oracle.New(c.seed, c.rate, c.events)
		args := []string{fmt.Sprintf("--seed=%d", c.seed), fmt.Sprintf("--rate=%d", c.rate), fmt.Sprintf("--events=%d", c.events)}
		for _, query := range nexmark.Queries() {
			if query == "q5k" {
				continue
			}
			t.Run(fmt.Sprintf("%s rate=%d %v", query, c.rate, c.setting), func(t *testing.T) {
				want := in.Line(query, 2*time.Second)
				if got := c.setting.run(t, query, args...); got != want {
					t.Errorf("seed %d:\ngot  %s\nwant %s", c.seed, got, want)
				}
			})
		}
	}
}

// TestWindowsOfManySlides runs the queries whose windows begin every ten
// milliseconds, over few events, for each is in a thousand of them.
func TestWindowsOfManySlides(t *testing.T) {
	const seed, slide = 5, 10 * time.Millisecond
	for _, c := range []struct {
		query        string
		rate, events int
		setting      setting
	}{
		{"q5", 1000, 3000, setting{parallelism: 2, args: []string{"--slide=10ms"}}},
		{"q5k", 1_000_000, 1500, setting{parallelism: 2, tiered: true}},
		{"q5k", 1000, 1500, setting{parallelism: 1}},
	} {
		t.Run(fmt.Sprintf("%s rate=%d %v", c.query, c.rate, c.setting), func(t *testing.T) {
			want := oracle.New(seed, c.rate, c.events).Line(c.query, slide)
			got := c.setting.run(t, c.query, fmt.Sprintf("--seed=%d", seed), fmt.Sprintf("--rate=%d", c.rate), fmt.Sprintf("--events=%d", c.events))
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
