package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	faults "github.com/millrace/millrace/blob/faulty"
)

// One bit of any object of the journal flips: reading it says which object and
// where, or comes to the same state from an older snapshot. Never to another.
func TestAFlippedBitIsNamedOrWithoutEffect(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	b := blob.NewMemory()
	j := open(t, b, "leader")
	for i := range 28 {
		appendJob(t, j, fmt.Sprint(i))
	}
	want := j.State()
	var objects []string
	for _, prefix := range []string{recordPrefix, snapshotPrefix} {
		if err := b.List(t.Context(), prefix, func(i blob.Info) error {
			objects = append(objects, i.Key)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	write := func(key string, data []byte) {
		if err := b.Put(t.Context(), key, bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
	}
	named, harmless := 0, 0
	for range 250 {
		key := objects[rng.IntN(len(objects))]
		whole, _, err := b.Get(t.Context(), key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(whole)
		at := rng.IntN(len(bad))
		bad[at] ^= 1 << rng.IntN(8)
		write(key, bad)
		got, err := Read(t.Context(), b)
		switch {
		case err == nil:
			harmless++
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("seed %d: byte %d of %s: another state (-want +got):\n%s", seed, at, key, diff)
			}
		case api.CodeOf(err) == api.JournalCorrupt && strings.Contains(err.Error(), key) && strings.Contains(err.Error(), "offset"):
			named++
		default:
			t.Errorf("seed %d: byte %d of %s: %v", seed, at, key, err)
		}
		write(key, whole)
	}
	t.Logf("%d were named, %d had no effect", named, harmless)
	if named == 0 || harmless == 0 {
		t.Error("one of the two was not met")
	}
}

// Every operation goes wrong once, in each way: what was appended is there, in
// order and once, and what is read is that or an error that names the object.
func TestEveryOperationGoesWrongOnce(t *testing.T) {
	for name, rule := range map[string]faults.Rule{
		"fails":                      {Kind: faults.Fail},
		"happens, the reply is lost": {Kind: faults.LoseReply},
		"reads half":                 {Ops: faults.Get, Kind: faults.CutShort},
		"reads a flipped bit":        {Ops: faults.Get, Kind: faults.FlipBit},
	} {
		t.Run(name, func(t *testing.T) {
			for n, met := uint64(1), true; met; n++ {
				synctest.Test(t, func(t *testing.T) { met = goesWrong(t, rule, n) })
				if t.Failed() || !met {
					t.Logf("%d operations", n-1)
					return
				}
			}
		})
	}
}

func goesWrong(t *testing.T, rule faults.Rule, n uint64) bool {
	rule.Nth = n
	inner := blob.NewMemory()
	b := faults.New(inner, 1, rule)
	var want []string
	named := func(what string, err error) {
		t.Helper()
		// A folder has no object to name.
		if hit, _ := b.First(); err != nil && !strings.Contains(err.Error(), hit.Key) {
			t.Errorf("operation %d, %s %s: %s: the error does not name it: %v", n, hit.Op, hit.Key, what, err)
		}
	}
	for leader := range 3 {
		opt := Options{LeaderID: fmt.Sprint(leader), Every: 4}
		j, err := Open(t.Context(), b, opt)
		if err != nil {
			named("take leadership", err)
			if j, err = Open(t.Context(), b, opt); err != nil {
				t.Fatalf("operation %d: the second try: %v", n, err)
			}
		}
		for i := range 6 {
			id := fmt.Sprint(leader, "-", i)
			if err := j.Append(t.Context(), submitted(id)); err != nil {
				named("append", err)
				if err := j.Append(t.Context(), submitted(id)); err != nil {
					t.Fatalf("operation %d: the second append: %v", n, err)
				}
			}
			want = append(want, id)
		}
		if diff := cmp.Diff(want, jobs(j.State())); diff != "" {
			t.Errorf("operation %d: the leader holds (-want +got):\n%s", n, diff)
		}
		for range 2 {
			got, err := Read(t.Context(), b)
			if err != nil {
				named("read", err)
				continue
			}
			if diff := cmp.Diff(want, jobs(got)); diff != "" {
				t.Errorf("operation %d: the bucket holds (-want +got):\n%s", n, diff)
			}
		}
	}
	if got, err := Read(t.Context(), inner); err != nil {
		t.Error(err)
	} else if diff := cmp.Diff(want, jobs(got)); diff != "" {
		t.Errorf("operation %d: the bucket holds at the end (-want +got):\n%s", n, diff)
	}
	_, met := b.First()
	return met
}
