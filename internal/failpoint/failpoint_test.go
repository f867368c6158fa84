package failpoint_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/failpoint"
)

// TestThePointsInTheCodeAreTheList reads the tree: every point of the list is hit
// somewhere, and no other is.
func TestThePointsInTheCodeAreTheList(t *testing.T) {
	hit := regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`)
	found := map[string][]string{}
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasPrefix(path, "../../internal/failpoint/") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range hit.FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = append(found[m[1]], strings.TrimPrefix(path, "../../"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range failpoint.All() {
		if len(found[name]) == 0 {
			t.Errorf("point %s is nowhere in the code", name)
		}
		delete(found, name)
	}
	for name, files := range found {
		t.Errorf("point %s of %v is not in the list", name, files)
	}
	if all := failpoint.All(); len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Error("a name is in the list twice")
	}
}

func TestAPointCostsNothing(t *testing.T) {
	if failpoint.Enabled {
		t.Skip("this build has points")
	}
	if n := testing.AllocsPerRun(100, func() { _ = failpoint.Hit("checkpoint.before-ack") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
