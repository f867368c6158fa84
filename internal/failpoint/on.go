//go:build failpoints

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Enabled says whether this build has points.
const Enabled = true

const variable = "MILLRACE_FAILPOINTS"

// Variables are environment variables that a child needs for its points.
func Variables() []string { return []string{variable} }

// ErrInjected is wrapped by what Hit returns where error was asked for.
var ErrInjected = errors.New("injected at a failpoint")

// Kinds of what happens.
const (
	kill  = "kill"
	stop  = "stop"
	fail  = "error"
	delay = "delay"
)

// point is what happens at one name.
type point struct {
	kind  string
	delay time.Duration
	at    uint64 // 0: every hit
}

var points struct {
	sync.Mutex
	file    string
	changed time.Time
	set     map[string]point
	hits    map[string]uint64
	begun   bool
}

// Hit is a point. It returns nil, but where the variable asks for an error.
func Hit(name string) error {
	if !slices.Contains(names, name) {
		panic(fmt.Sprintf("failpoint: %q is not in the list of names", name))
	}
	p, file, due := look(name)
	if !due {
		return nil
	}
	switch p.kind {
	case fail:
		return fmt.Errorf("%s: %w", name, ErrInjected)
	case delay:
		time.Sleep(p.delay)
	case kill, stop:
		if file != "" && os.Rename(file, file+".fired") != nil {
			return nil // another process was first
		}
		signal := syscall.SIGKILL
		if p.kind == stop {
			signal = syscall.SIGSTOP
		}
		_ = syscall.Kill(os.Getpid(), signal)
		if p.kind == kill {
			select {} // not one step more
		}
	}
	return nil
}

// look counts a hit and says what is due.
func look(name string) (p point, file string, due bool) {
	points.Lock()
	defer points.Unlock()
	load()
	points.hits[name]++
	p, ok := points.set[name]
	return p, points.file, ok && (p.at == 0 || p.at == points.hits[name])
}

// load reads the variable once, its file whenever it has changed. Counting
// begins anew with a file.
func load() {
	if !points.begun {
		points.begun = true
		points.hits = map[string]uint64{}
		text := os.Getenv(variable)
		if file, ok := strings.CutPrefix(text, "@"); ok {
			points.file = file
		} else {
			points.set = mustParse(text)
		}
	}
	if points.file == "" {
		return
	}
	info, err := os.Stat(points.file)
	if err != nil {
		points.set, points.changed = nil, time.Time{}
		return
	}
	if info.ModTime().Equal(points.changed) {
		return
	}
	text, err := os.ReadFile(points.file)
	if err != nil {
		return // it was renamed meanwhile
	}
	points.changed = info.ModTime()
	points.set = mustParse(string(text))
	clear(points.hits)
}

func mustParse(text string) map[string]point {
	set, err := parse(text)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", variable, err))
	}
	return set
}

// parse reads name=kind[:duration][@hit], separated by semicolons.
func parse(text string) (map[string]point, error) {
	set := map[string]point{}
	for entry := range strings.SplitSeq(strings.TrimSpace(text), ";") {
		if entry == "" {
			continue
		}
		name, what, _ := strings.Cut(entry, "=")
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("%q is not in the list of names", name)
		}
		var p point
		var err error
		what, at, counted := strings.Cut(what, "@")
		if counted {
			if p.at, err = strconv.ParseUint(at, 10, 64); err != nil || p.at == 0 {
				return nil, fmt.Errorf("%s: hit %q: a number from 1", name, at)
			}
		}
		kind, took, timed := strings.Cut(what, ":")
		p.kind = kind
		if timed {
			if p.delay, err = time.ParseDuration(took); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		if !slices.Contains([]string{kill, stop, fail, delay}, kind) || timed != (kind == delay) {
			return nil, fmt.Errorf("%s: %q: want kill, stop, error or delay:DURATION", name, what)
		}
		set[name] = p
	}
	return set, nil
}
