//go:build linux

package chaos

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binaries are what a run starts.
type Binaries struct {
	Millrace string
	// Job is the ledger job, Upgraded its next version, empty for none.
	Job, Upgraded string
	// Revision is the commit that they were built from.
	Revision string
	// Failpoints says that they have points; Rescale, that millrace can rescale.
	Failpoints, Rescale bool
}

// Build builds them into a folder, from the module at root, with build tags.
func Build(ctx context.Context, root, folder string, tags ...string) (Binaries, error) {
	b := Binaries{Failpoints: true}
	all := append([]string{"failpoints"}, tags...)
	for _, one := range []struct {
		at   *string
		name string
		pkg  string
		tags []string
	}{
		{&b.Millrace, "millrace", "./cmd/millrace", nil},
		{&b.Job, "ledger", "./internal/chaos/ledgerjob", nil},
		{&b.Upgraded, "ledger-2", "./internal/chaos/ledgerjob", []string{"ledger_v2"}},
	} {
		*one.at = filepath.Join(folder, one.name)
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", strings.Join(append(one.tags, all...), ","), "-o", *one.at, one.pkg)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("go build %s: %w\n%s", one.pkg, err, out)
		}
	}
	b.Revision = revision(ctx, root)
	b.Rescale = exec.CommandContext(ctx, b.Millrace, "rescale", "--help").Run() == nil
	return b, nil
}

// revision is the commit of a tree, with a + where it has changes.
func revision(ctx context.Context, root string) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--always", "--exclude=*", "--abbrev=10", "--dirty=+")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "unknown" // no tree of git's
	}
	return strings.TrimSpace(string(out))
}
