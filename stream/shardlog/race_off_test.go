//go:build !race

package shardlog

// raceEnabled makes long tests shorter under the race detector.
const raceEnabled = false
