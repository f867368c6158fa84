package nexmark

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// readHash finds the one line of a query's hash among the files that its sinks
// committed to a folder, "q4 5 <16 hex digits> <16 hex digits>". Folders that
// begin with a dot hold what is not committed.
func readHash(folder, query string) (string, error) {
	form := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(query) + ` -?\d+ [0-9a-f]{16} [0-9a-f]{16}$`)
	var lines []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != folder && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		text, err := os.ReadFile(path)
		for _, line := range form.FindAll(text, -1) {
			lines = append(lines, string(bytes.Clone(line)))
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash of %s: %w", query, err)
	}
	if len(lines) != 1 {
		return "", fmt.Errorf("hash of %s: the job wrote %d lines of it, want one: %q", query, len(lines), lines)
	}
	return lines[0], nil
}
