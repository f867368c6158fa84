package local_test

import (
	"context"
	"sync"
	"testing"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/sdk"
)

// attempts is a transactional sink that notes who recovers it.
type attempts struct{ envs []sdk.SinkEnv }

func (a *attempts) Open(context.Context, sdk.SinkEnv) (sdk.Writer[int64], error) {
	return silent{}, nil
}

func (a *attempts) Recover(_ context.Context, env sdk.SinkEnv, _ uint64, _ []sdk.Handle) error {
	a.envs = append(a.envs, env)
	return nil
}

func (a *attempts) Commit(context.Context, sdk.SinkEnv, uint64, []sdk.Handle) error { return nil }

type silent struct{}

func (silent) Write(*sdk.Batch[int64]) error { return nil }
func (silent) Flush() error                  { return nil }
func (silent) Close() error                  { return nil }

func (silent) Prepare(uint64) (func(context.Context) ([]byte, error), error) {
	return func(context.Context) ([]byte, error) { return nil, nil }, nil
}

// What a sink knows an attempt by is never the same twice: each run is a lineage
// of its own, and one that starts from a savepoint has higher epochs.
func TestNoTwoAttemptsAreTheSameToASink(t *testing.T) {
	b := blob.NewMemory()
	out := &attempts{}
	run := func(restore string) {
		t.Helper()
		drain := make(chan struct{})
		var once sync.Once
		err := local.Run(within(t), local.Config{Bucket: b, Drain: drain, Restore: restore, Graph: graphOf(func(env *sdk.Env) error {
			s := unbounded(env)
			s.To(out).Named("out")
			s.To(sdk.Func(func(int64) error {
				once.Do(func() { close(drain) })
				return nil
			})).Named("end")
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
	}
	run("")
	savepoint := ""
	if err := b.List(t.Context(), "", func(i blob.Info) error {
		savepoint = i.Key
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	run("")
	run(savepoint)
	first, second, third := out.envs[0], out.envs[1], out.envs[2]
	if first.Lineage == second.Lineage {
		t.Errorf("two runs have the lineage %s", first.Lineage)
	}
	if third.Lineage != first.Lineage || third.Epoch <= first.Epoch {
		t.Errorf("a run from the savepoint of %s@%d is %s@%d", first.Lineage, first.Epoch, third.Lineage, third.Epoch)
	}
}
