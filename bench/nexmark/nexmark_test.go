package nexmark

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func valid() Config {
	return Config{Executable: "millrace", Query: "q5", Events: 1, Rate: 1, Parallelism: 3, Workers: 2, State: "memory", SlotMemory: 1 << 30}
}

func TestValidate(t *testing.T) {
	queries := []string{"q4", "q5"}
	c := valid()
	if err := c.Validate(queries, 3); err != nil {
		t.Errorf("refused: %v", err)
	}
	if got := c.slots(); got != 2 {
		t.Errorf("%d slots a task manager for 3 subtasks on 2", got)
	}
	for mentions, change := range map[string]func(*Config){
		"there are q4, q5":         func(c *Config) { c.Query = "q6" },
		"--events 0":               func(c *Config) { c.Events = 0 },
		"--rate 0":                 func(c *Config) { c.Rate = 0 },
		"--throttle -1":            func(c *Config) { c.Throttle = -1 },
		"--throttle 50%":           func(c *Config) { c.Throttle, c.Share = 1, 0.5 },
		"--slide 1ns":              func(c *Config) { c.Slide = 1 },
		"--workers 0":              func(c *Config) { c.Workers = 0 },
		"--workers 4":              func(c *Config) { c.Workers = 4 },
		"--parallelism 4":          func(c *Config) { c.Parallelism = 4 },
		"--parallelism 0":          func(c *Config) { c.Parallelism = 0 },
		"gives the job its --rate": func(c *Config) { c.Args = []string{"--keys=3", "--rate=5"} },
		"--state rocks":            func(c *Config) { c.State = "rocks" },
		"--slot-memory 5":          func(c *Config) { c.SlotMemory = 5 },
		"--warm-up -1s":            func(c *Config) { c.WarmUp = -time.Second },
		"no executable":            func(c *Config) { c.Executable = "" },
		"-interval -1ns":           func(c *Config) { c.CheckpointInterval = -1 },
	} {
		c := valid()
		change(&c)
		if err := c.Validate(queries, 3); err == nil || !strings.Contains(err.Error(), mentions) {
			t.Errorf("%v does not mention %q", err, mentions)
		}
	}
}

func TestArguments(t *testing.T) {
	start := time.UnixMilli(1234)
	r := run{Config: valid(), results: "/r", latencies: "/l"}
	plain := strings.Join(r.args(start), " ")
	if plain != "--query q5 --events 1 --seed 0 --rate 1" {
		t.Errorf("plain: %s", plain)
	}
	r.Throttle, r.Slide, r.Hash, r.WarmUp, r.Args = 7, 10*time.Millisecond, true, time.Second, []string{"--keys=3"}
	r.OutOfOrder = 100
	all := r.args(start)
	for _, want := range []string{"--throttle 7", "--start 1234", "--latencies /l", "--warm-up 1s", "--slide 10ms", "--out-of-order 100", "--hash --output /r", "--keys=3"} {
		if !strings.Contains(strings.Join(all, " "), want) {
			t.Errorf("%s is not in %v", want, all)
		}
	}
	r = run{Config: valid(), results: "/r"}
	if r.Query = "q10"; !slices.Contains(r.args(start), "--output") {
		t.Error("q10 writes no files")
	}
}

// A run is a result for speed from 20 s on, unless it restarted.
func TestSpeed(t *testing.T) {
	for _, c := range []struct {
		wall     time.Duration
		restarts int
		valid    bool
	}{{20 * time.Second, 0, true}, {20*time.Second - 1, 0, false}, {time.Minute, 1, false}, {0, 0, false}} {
		r := &Result{Events: 4000}
		r.took(c.wall, 2*c.wall, c.restarts)
		if r.SpeedValid != c.valid || (r.Invalid == "") != c.valid {
			t.Errorf("%v, %d restarts: valid %v, %q", c.wall, c.restarts, r.SpeedValid, r.Invalid)
		}
		if c.wall == 20*time.Second && (r.EventsPerSecond != 200 || r.EventsPerCoreSecond != 100 || r.Cores != 2) {
			t.Errorf("speed: %+v", r)
		}
	}
}

func TestReadHash(t *testing.T) {
	const line = "q4 -5 0123456789abcdef fedcba9876543210"
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := readHash(folder, "q4"); err == nil {
		t.Errorf("no file gave %q", got)
	}
	write(".staged/x/part", line+"\n")
	write("rows/part-1", "q4|5\nq44 5 0123456789abcdef fedcba9876543210\n"+line+" \n")
	if got, err := readHash(folder, "q4"); err == nil {
		t.Errorf("what is not committed, or no hash, gave %q", got)
	}
	write("sums/part-0", line+"\n")
	if got, err := readHash(folder, "q4"); err != nil || got != line {
		t.Errorf("got %q, %v", got, err)
	}
	write("sums/part-1", line+"\n")
	if got, err := readHash(folder, "q4"); err == nil {
		t.Errorf("two lines gave %q", got)
	}
}
