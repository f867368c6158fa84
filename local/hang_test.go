package local_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/sdk"
)

// A function that never returns fails its job, and does not keep Run.
func TestAFunctionThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := make(chan struct{})
		began := time.Now()
		err := local.Run(t.Context(), local.Config{Graph: graphOf(func(env *sdk.Env) error {
			env.Restart(sdk.NoRestart())
			env.HangTimeout(30 * time.Second)
			sdk.From(env, sdk.Generate(1000, number)).Map(func(v int64) int64 {
				if v == 500 {
					<-lock
				}
				return v
			}).Named("waits").To(sdk.Func(func(int64) error { return nil })).Named("out")
			return nil
		})})
		var e *job.Error
		if !errors.As(err, &e) || e.Code != "restarts-exhausted" || e.Operator != "waits" || !strings.Contains(e.Stack, "hang_test.go") {
			t.Errorf("got %v", err)
		}
		for _, text := range []string{"the restart strategy is none", "has been in one call for 30s", "is left behind"} {
			if err != nil && !strings.Contains(err.Error(), text) {
				t.Errorf("the error does not say %q: %v", text, err)
			}
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("Run returned after %v", took)
		}
		close(lock) // for the bubble's end
	})
}
