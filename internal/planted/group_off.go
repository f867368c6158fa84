//go:build !planted_group

package planted

// GroupOffByOne: a task asks for one key group less than it owns when it restores.
const GroupOffByOne = false
