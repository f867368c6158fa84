//go:build !failpoints

package failpoint

// Enabled says whether this build has points.
const Enabled = false

// Hit does nothing.
func Hit(string) error { return nil }

// Variables are environment variables that a child needs for its points.
func Variables() []string { return nil }
