package shards_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/sdk"
)

// poll reads a split until it answers with one of the statuses, waiting for
// wake-ups in between.
func poll[T any](t *testing.T, r sdk.Reader[T], wake <-chan struct{}, b *sdk.Batch[T], until ...sdk.ReadStatus) sdk.ReadStatus {
	t.Helper()
	for {
		status, err := r.Poll(b, 7)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(until, status) {
			return status
		}
		if status != sdk.ReadMore {
			<-wake
		}
	}
}

func environment(r *rig) (sdk.SourceEnv, <-chan struct{}) {
	wake := make(chan struct{}, 1)
	return sdk.SourceEnv{ShardAddress: r.address, Wake: func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}}, wake
}

func numbers(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%05d", i)
	}
	return all
}

func TestASourceReadsEveryShardToItsTip(t *testing.T) {
	r := newRig(t)
	r.create("in", 3)
	want := numbers(1500)
	r.put("in", want...)
	src := shards.Source("in", sdk.Records())
	env, wake := environment(r)
	splits, err := src.Splits(context.Background(), env, nil)
	if err != nil || len(splits) != 3 {
		t.Fatalf("%d splits, %v", len(splits), err)
	}
	var got []string
	for _, s := range splits {
		tip, err := src.(sdk.Tipper).Tip(context.Background(), env, s)
		if err != nil {
			t.Fatal(err)
		}
		// Read a part, and the rest with another reader, up to the tip.
		var b sdk.Batch[sdk.Record]
		first, err := src.Open(context.Background(), env, s, nil)
		if err != nil {
			t.Fatal(err)
		}
		for b.Len() < 100 {
			poll(t, first, wake, &b, sdk.ReadMore)
		}
		at := first.Position()
		r.check(first.Close())
		second, err := src.Open(context.Background(), env, s, at)
		if err != nil {
			t.Fatal(err)
		}
		r.put("in", "later than the drain") // not to be read
		second.StopAfter(tip)
		poll(t, second, wake, &b, sdk.ReadEnded)
		if !slices.Equal(second.Position(), tip) {
			t.Errorf("%s ended at %x, want the tip %x", s.ID, second.Position(), tip)
		}
		r.check(second.Close())
		for i, rec := range b.Values {
			got = append(got, string(rec.Data))
			if rec.Key != string(rec.Data) || !strings.Contains(rec.Where, s.ID) || b.Times[i] == sdk.NoTime {
				t.Fatalf("record %+v at %d: want its key, place and arrival", rec, b.Times[i])
			}
		}
	}
	slices.Sort(got)
	if i := slices.Index(got, "later than the drain"); i >= 0 {
		// Shards whose tip was asked for after it was put may hold it.
		got = slices.DeleteFunc(got, func(s string) bool { return s == "later than the drain" })
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestASourceBeginsWhereItsOptionsSay(t *testing.T) {
	r := newRig(t)
	r.create("in", 1)
	r.put("in", "old")
	env, wake := environment(r)
	for name, c := range map[string]struct {
		opts []shards.SourceOption
		want []string
	}{
		"trim horizon": {nil, []string{"old", "new"}},
		"latest":       {[]shards.SourceOption{shards.Latest()}, []string{"new"}},
		"a timestamp":  {[]shards.SourceOption{shards.AtTimestamp(time.Now().Add(-time.Hour))}, []string{"old", "new"}},
	} {
		src := shards.Source("in", sdk.Lines(), c.opts...)
		splits, err := src.Splits(context.Background(), env, nil)
		r.check(err)
		r.put("in", "new")
		// The splits of a restored checkpoint stay as they are.
		again, err := src.Splits(context.Background(), env, splits)
		r.check(err)
		if diff := cmp.Diff(splits, again); diff != "" {
			t.Errorf("%s: known splits changed (-before +after):\n%s", name, diff)
		}
		reader, err := src.Open(context.Background(), env, splits[0], nil)
		r.check(err)
		var b sdk.Batch[string]
		poll(t, reader, wake, &b, sdk.ReadEmpty)
		r.check(reader.Close())
		if diff := cmp.Diff(c.want, b.Values); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		r.drop("in")
		r.create("in", 1)
		r.put("in", "old")
	}
}

// Retention removes everything between the search for the tips and the read:
// the drain has nothing to wait for.
func TestADrainEndsWhereAllHasExpired(t *testing.T) {
	for _, read := range []int{0, 3} {
		r := newRig(t)
		r.create("in", 1)
		r.put("in", numbers(10)...)
		env, wake := environment(r)
		src := shards.Source("in", sdk.Lines(), shards.SkipExpired())
		splits, err := src.Splits(context.Background(), env, nil)
		r.check(err)
		var b sdk.Batch[string]
		var at []byte
		if read > 0 {
			first, err := src.Open(context.Background(), env, splits[0], nil)
			r.check(err)
			for b.Len() < read {
				status, err := first.Poll(&b, read-b.Len())
				if r.check(err); status == sdk.ReadWaiting {
					<-wake
				}
			}
			at = first.Position()
			r.check(first.Close())
		}
		tip, err := src.(sdk.Tipper).Tip(context.Background(), env, splits[0])
		r.check(err)
		r.expire()
		reader, err := src.Open(context.Background(), env, splits[0], at)
		r.check(err)
		reader.StopAfter(tip)
		if status := poll(t, reader, wake, &b, sdk.ReadEnded, sdk.ReadEmpty); status != sdk.ReadEnded {
			t.Errorf("after %d of 10 records, the rest expired: status %v, want the end", read, status)
		}
		if b.Len() != read || !slices.Equal(reader.Position(), tip) {
			t.Errorf("read %d records to %x, want %d to the tip %x", b.Len(), reader.Position(), read, tip)
		}
		r.check(reader.Close())
	}
}

func TestASourceSaysWhatIsMissing(t *testing.T) {
	r := newRig(t)
	env, _ := environment(r)
	src := shards.Source("nope", sdk.Lines())
	for want, env := range map[string]sdk.SourceEnv{
		"millrace stream create nope": env,
		"runs by hand":                {},
	} {
		if _, err := src.Splits(context.Background(), env, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	r.create("nope", 1)
	known, err := src.Splits(context.Background(), env, nil)
	r.check(err)
	r.drop("nope")
	r.create("nope", 1)
	if _, err := src.Splits(context.Background(), env, known); err == nil || !strings.Contains(err.Error(), "created again") {
		t.Errorf("a stream that was created again: %v", err)
	}
}

func TestWhatDoesNotDecodeIsNamedByShardAndSequenceNumber(t *testing.T) {
	r := newRig(t)
	r.create("in", 1)
	r.put("in", "1", "two")
	env, wake := environment(r)
	src := shards.Source("in", sdk.JSON[int]())
	splits, err := src.Splits(context.Background(), env, nil)
	r.check(err)
	reader, err := src.Open(context.Background(), env, splits[0], nil)
	r.check(err)
	defer reader.Close()
	for {
		status, err := reader.Poll(&sdk.Batch[int]{}, 10)
		if err != nil {
			for _, want := range []string{"stream in", "shardId-000000000000", "sequence number 49"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q: %v", want, err)
				}
			}
			var coded interface{ ErrorCode() string }
			if !errors.As(err, &coded) || coded.ErrorCode() != "record-not-decoded" {
				t.Errorf("error without the code record-not-decoded: %#v", err)
			}
			return
		}
		if status == sdk.ReadEmpty {
			t.Fatal("the record that does not decode was passed over")
		}
		if status == sdk.ReadWaiting {
			<-wake
		}
	}
}
