package sdk

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/job"
)

// Each option of Env is what the setting of a submission would be.
func TestOptionsAreSettings(t *testing.T) {
	for name, c := range map[string]struct {
		set   func(*Env)
		given map[string]string
	}{
		"tolerance":    {func(e *Env) { e.TolerateFailedCheckpoints(3) }, map[string]string{"execution.checkpointing.tolerable-failed-checkpoints": "3"}},
		"tiered":       {func(e *Env) { e.TieredState(0) }, map[string]string{"state.backend.type": "tiered"}},
		"tiered, 64mb": {func(e *Env) { e.TieredState(64 << 20) }, map[string]string{"state.backend.type": "tiered", "state.memory": "64mb"}},
		"hang":         {func(e *Env) { e.HangTimeout(5 * time.Second) }, map[string]string{"task.hang-timeout": "5s"}},
		"no hang":      {func(e *Env) { e.HangTimeout(0) }, map[string]string{"task.hang-timeout": "off"}},
		"rate": {func(e *Env) { e.Restart(RestartAtRate(3, time.Hour, time.Second)) }, map[string]string{
			"restart-strategy.type": "failure-rate", "restart-strategy.failure-rate.max-failures-per-interval": "3", "restart-strategy.failure-rate.failure-rate-interval": "1h",
		}},
	} {
		got, plain := newEnv(nil, false), newEnv(nil, false)
		c.set(got)
		if len(got.errs) > 0 {
			t.Errorf("%s: %v", name, got.errs)
		}
		if err := job.Configure(plain.g.Config, c.given); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(plain.g.Config, got.g.Config, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-setting +option):\n%s", name, diff)
		}
	}
	for name, set := range map[string]func(*Env){
		"tolerance": func(e *Env) { e.TolerateFailedCheckpoints(-1) },
		"tiered":    func(e *Env) { e.TieredState(100) },
		"hang":      func(e *Env) { e.HangTimeout(time.Millisecond) },
	} {
		e := newEnv(nil, false)
		if set(e); len(e.errs) != 1 {
			t.Errorf("%s: errors %v, want one", name, e.errs)
		}
	}
}
