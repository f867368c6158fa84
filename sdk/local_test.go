package sdk

import (
	"bytes"
	"strings"
	"testing"
)

// A run by hand tells what its plan warns of.
func TestARunByHandShowsWarnings(t *testing.T) {
	var errs bytes.Buffer
	code := run(func(env *Env) error {
		From(env, Slice(1, 2)).KeyBy(func(v int) int { return v }).
			Process("nothing kept", func(*KeyedOp[int]) KeyedFn[int, int, int] {
				return KeyedFn[int, int, int]{Each: func(*KeyedContext[int, int], int) error { return nil }}
			}).
			To(Func(func(int) error { return nil }))
		return nil
	}, nil, &bytes.Buffer{}, &errs)
	if code != 0 || !strings.Contains(errs.String(), "nothing kept") || !strings.Contains(errs.String(), "declares no state") {
		t.Errorf("exit %d, stderr:\n%s", code, &errs)
	}
}
