package join

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/window"
)

func TestWindowsThatDoNotJoinAreRefused(t *testing.T) {
	c := WindowConfig[int, int, int, int]{Each: Pairs[int](Outer{}, func(_, _ *int) int { return 0 })}
	for _, a := range []window.Assigner{window.Cumulating(time.Hour, time.Minute), {Endless: true}} {
		c.Assigner = a
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), "tumbling, sliding or session") {
			t.Errorf("%+v: error %v", a, err)
		}
	}
	c.Assigner = window.Tumbling(time.Hour)
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}
