//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Control is a planted bug and the run that must find it.
type Control struct {
	// Tag is its build tag, Bug what is wrong.
	Tag, Bug string
	// Scenario makes the faults that bring it to light.
	Scenario Config
	// Test is a test that must fail where no process can show the bug from
	// outside: its package and its name.
	Test [2]string
}

// Controls are the planted bugs of package planted.
func Controls() []Control {
	kills := []Step{{Kind: KillWorker}, {Kind: KillWorker}, {Kind: KillWorker}}
	scales := []Step{{Kind: Upgrade, To: 3}, {Kind: Upgrade, To: 4}}
	reshards := slices.Repeat([]Step{{Kind: SplitShard}, {Kind: MergeShards}}, 5)
	return []Control{
		{Tag: "planted_barrier", Bug: "barrier not aligned", Scenario: Config{Rate: 6000, Checkpoint: 100 * time.Millisecond, Plan: kills}},
		{Tag: "planted_offset", Bug: "offset saved late", Scenario: Config{Rate: 6000, Plan: kills}},
		{Tag: "planted_epoch", Bug: "epoch not checked against the lineage", Scenario: Config{Plan: scales}},
		{Tag: "planted_commit", Bug: "commit before completion", Scenario: Config{Plan: []Step{
			{Kind: FailpointKill, Points: "checkpoint.after-manifest=delay:300ms;checkpoint.before-journal=kill@3"}}}},
		{Tag: "planted_group", Bug: "key group off by one", Scenario: Config{Keys: 3000, Rate: 6000, Plan: kills}},
		{Tag: "planted_timer", Bug: "timers lost where key groups move", Scenario: Config{Plan: scales}},
		{Tag: "planted_recovery", Bug: "recovery commits nothing", Scenario: Config{Plan: []Step{
			{Kind: FailpointKill, Points: "commit.before=kill@2"}, {Kind: FailpointKill, Points: "checkpoint.completed=kill@2"}}}},
		{Tag: "planted_lineage", Bug: "children of a shard read beside it", Scenario: Config{Rate: 6000, Plan: reshards}},
		{Tag: "planted_fsync", Bug: "fsync removed", Test: [2]string{"./stream/shardlog", "Power"}},
	}
}

// ErrSurvived is in the error of RunControls where a planted bug was not found.
var ErrSurvived = errors.New("planted bugs survived")

// RunControls builds the system with each planted bug and runs its scenario,
// which must fail; the same scenario with a clean build and the same seed must
// pass. Only those whose tag contains only are run. It writes a line for each to w.
func RunControls(ctx context.Context, root, only string, seed uint64, w io.Writer, log func(string, ...any)) error {
	folder, err := os.MkdirTemp("", "chaos-controls-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	clean, err := Build(ctx, root, folder)
	if err != nil {
		return err
	}
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	fmt.Fprintf(w, "seed %d, revision %s\n", seed, clean.Revision)
	var survived []string
	for _, c := range Controls() {
		if !strings.Contains(c.Tag, only) {
			continue
		}
		found, err := c.run(ctx, root, seed, clean, log)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", c.Tag, err)
		case found == "":
			survived = append(survived, c.Bug)
			fmt.Fprintf(w, "SURVIVED  %-42s %s\n", c.Bug, c.Tag)
		default:
			fmt.Fprintf(w, "caught    %-42s %s\n", c.Bug, found)
		}
	}
	if len(survived) > 0 {
		return fmt.Errorf("%w: %s", ErrSurvived, strings.Join(survived, ", "))
	}
	return nil
}

// run returns what found the bug, empty if nothing did.
func (c Control) run(ctx context.Context, root string, seed uint64, clean Binaries, log func(string, ...any)) (string, error) {
	if c.Test[0] != "" {
		return c.test(ctx, root)
	}
	folder, err := os.MkdirTemp("", "chaos-control-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	broken, err := Build(ctx, root, folder, c.Tag)
	if err != nil {
		return "", err
	}
	cfg := c.Scenario
	cfg.Log = log
	for try := range uint64(3) {
		cfg.Seed = seed + try
		cfg.Binaries, cfg.Patience = clean, 0
		if _, err := Run(ctx, cfg); err != nil {
			return "", fmt.Errorf("the scenario fails without the bug: %w", err)
		}
		// A healthy system needs a fraction of this.
		cfg.Binaries, cfg.Patience = broken, 20*time.Second
		_, err := Run(ctx, cfg)
		var f *Failure
		if errors.As(err, &f) && ctx.Err() == nil {
			text, _, _ := strings.Cut(f.Err.Error(), "\n")
			return text, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// test runs the package's tests with the bug in.
func (c Control) test(ctx context.Context, root string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-tags", c.Tag, "-run", c.Test[1], c.Test[0])
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return "", ctx.Err()
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); ok {
			return c.Test[0] + " " + name, nil
		}
	}
	return "", fmt.Errorf("go test %s: %w\n%s", c.Test[0], err, out)
}
