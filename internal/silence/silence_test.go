package silence

import (
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	type look struct {
		after time.Duration
		sign  uint64
		want  time.Duration
	}
	for name, looks := range map[string][]look{
		"silent":                  {{0, 7, 0}, {time.Second, 7, time.Second}, {time.Second, 7, 2 * time.Second}},
		"a sign ends it":          {{0, 7, 0}, {time.Second, 7, time.Second}, {time.Second, 8, 0}, {time.Second, 8, time.Second}},
		"excused":                 {{0, 7, 0}, {time.Second, 0, 0}, {time.Second, 0, 0}, {time.Second, 7, 0}},
		"the watcher was stopped": {{0, 7, 0}, {time.Hour, 7, 2 * time.Second}, {time.Second, 7, 3 * time.Second}},
		"time that goes back":     {{0, 7, 0}, {-time.Hour, 7, 0}, {time.Second, 7, time.Second}},
	} {
		w := Watch{Most: 2 * time.Second}
		now := time.UnixMilli(1_700_000_000_000)
		for i, l := range looks {
			now = now.Add(l.after)
			if got := w.Look(now, l.sign); got != l.want {
				t.Errorf("%s: look %d: silent for %v, want %v", name, i+1, got, l.want)
			}
		}
	}
}
