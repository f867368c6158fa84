package rig

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Usage is what processes have used, and have in memory now.
type Usage struct {
	// CPU is time in user and kernel, that of processes that have ended
	// included. The kernel counts it in hundredths of a second a process.
	CPU time.Duration
	// Resident is the sum of resident sets in bytes; memory that two processes
	// share counts twice.
	Resident uint64
	// Processes is how many there are.
	Processes int
}

// processStat is a line of /proc/PID/stat.
type processStat struct {
	pid, parent int
	// own is the process's CPU time, reaped that of all children that have
	// ended and were waited for, and of theirs.
	own, reaped time.Duration
	pages       uint64
}

// UsageOf adds up processes and all that descend from them. A child that ends is
// in its own line first, and then, once its parent has waited for it, in the
// parent's: so the lines are read until two readings agree on who is there and
// what was reaped.
func UsageOf(roots ...int) (Usage, error) {
	before, err := family(roots)
	for range 20 {
		if err != nil {
			return Usage{}, err
		}
		var after map[int]processStat
		if after, err = family(roots); err == nil && maps.EqualFunc(before, after, func(a, b processStat) bool { return a.reaped == b.reaped }) {
			u := Usage{Processes: len(after)}
			for _, p := range after {
				u.CPU += p.own + p.reaped
				u.Resident += p.pages * uint64(os.Getpagesize())
			}
			return u, nil
		}
		before = after
	}
	return Usage{}, fmt.Errorf("processes below %v come and go too fast to be counted", roots)
}

// family reads the roots, which must be there, and their descendants.
func family(roots []int) (map[int]processStat, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]processStat{}
	all := map[int]processStat{}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		p, err := parseStat(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		children[p.parent] = append(children[p.parent], p)
		if slices.Contains(roots, p.pid) {
			all[p.pid] = p
		}
	}
	if len(all) < len(roots) {
		return nil, fmt.Errorf("of processes %v only %v are there", roots, slices.Sorted(maps.Keys(all)))
	}
	for next := slices.Clone(roots); len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			if _, known := all[p.pid]; !known {
				all[p.pid] = p
				next = append(next, p.pid)
			}
		}
	}
	return all, nil
}

// parseStat reads "pid (name) state parent ...". The name may hold anything.
func parseStat(line []byte) (processStat, error) {
	end := bytes.LastIndexByte(line, ')')
	number, _, _ := bytes.Cut(line, []byte(" "))
	fields := strings.Fields(string(line[end+1:]))
	if end < 0 || len(fields) < 22 {
		return processStat{}, fmt.Errorf("%d fields after the name, want 22", len(fields))
	}
	// Numbers of fields are those of proc(5), where state is the third.
	var failed error
	field := func(n int) int64 {
		v, err := strconv.ParseInt(fields[n-3], 10, 64)
		if err != nil {
			failed = err
		}
		return v
	}
	ticks := func(n int) time.Duration { return time.Duration(field(n)) * 10 * time.Millisecond }
	p := processStat{parent: int(field(4)), own: ticks(14) + ticks(15), reaped: ticks(16) + ticks(17), pages: uint64(field(24))}
	pid, err := strconv.Atoi(string(number))
	if err != nil {
		failed = err
	}
	p.pid = pid
	return p, failed
}
