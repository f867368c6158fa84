package shardlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

func TestASealedShardTakesNothingAndKeepsWhatItHas(t *testing.T) {
	fs := vfs.NewMem()
	id := ID{7, 0}
	l, stop := startLog(t, "log", Options{FS: fs})
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	closed := func(what string, err error) {
		t.Helper()
		if stream.KindOf(err) != stream.Closed {
			t.Errorf("%s: %v, want a closed shard", what, err)
		}
	}
	check(l.Create(ctx, Spec{ID: id}))
	_, last, err := l.Append(ctx, id, makeBlock("a", "b"))
	check(err)
	counts := []*pb.StagedCount{{Blocks: 2, Records: 3}}
	check(l.Stage(ctx, id, tx(1, 1), 0, 1, makeBlock("z")))
	check(l.Stage(ctx, id, tx(1, 1), 0, 0, makeBlock("x", "y")))
	reading := make(chan ReadAnswer, 1)
	go func() {
		a, err := l.Read(ctx, id, ReadRequest{At: stream.Position{From: stream.FromAfterSequence, Sequence: last}, MaxRecords: 9, MaxBytes: 9, Wait: time.Minute})
		if err != nil {
			t.Error(err)
		}
		reading <- a
	}()
	check(l.Create(ctx, Spec{ID: id, Sealed: true}))
	for round := range 2 {
		if end, sealed, err := l.Sealed(id); end != last || !sealed || err != nil {
			t.Fatalf("sealed at %v: %v, %v; want %v", end, sealed, err, last)
		}
		_, _, err := l.Append(ctx, id, makeBlock("c"))
		closed("append", err)
		closed("stage", l.Stage(ctx, id, tx(1, 2), 0, 0, makeBlock("c")))
		_, _, err = l.Commit(ctx, id, tx(1, 1), counts)
		closed("commit", err)
		// Opening it again is not offered.
		check(l.Create(ctx, Spec{ID: id}))
		a, err := l.Read(ctx, id, ReadRequest{At: stream.Position{From: stream.FromTrimHorizon}, MaxRecords: 9, MaxBytes: 999})
		if got := texts(t, a.Records); err != nil || !slices.Equal(got, []string{"a", "b"}) || a.End {
			t.Fatalf("read %v, end %v, %v", got, a.End, err)
		}
		if round == 0 {
			check(l.Create(ctx, Spec{ID: id, Sealed: true, Ended: true}))
			if a := <-reading; !a.End || a.Records != nil {
				t.Errorf("a reader that waits at the tip is answered %v, end %v", a.Records, a.End)
			}
			stop()
			l, stop = startLog(t, "log", Options{FS: fs})
		}
	}
	check(l.Create(ctx, Spec{ID: id, Sealed: true, Ended: true}))
	a, err := l.Read(ctx, id, ReadRequest{At: stream.Position{From: stream.FromTrimHorizon}, MaxRecords: 9, MaxBytes: 999})
	if err != nil || !a.End || a.Next != last {
		t.Errorf("the last read answers end %v, next %v, %v", a.End, a.Next, err)
	}
	// What was staged can be taken out, as often as it takes.
	for range 2 {
		blocks, already, err := l.Staged(ctx, id, tx(1, 1), counts)
		if err != nil || already || len(blocks) != 2 || !slices.Equal(append(texts(t, blocks[0]), texts(t, blocks[1])...), []string{"x", "y", "z"}) {
			t.Fatalf("staged: %v, already %v, %v", blocks, already, err)
		}
	}
	for i := range 2 {
		if n, already, err := l.Moved(ctx, id, tx(1, 1), counts); n != 3 || already != (i == 1) || err != nil {
			t.Errorf("moved %d records, already %v, %v", n, already, err)
		}
	}
	if n, already, err := l.Commit(ctx, id, tx(1, 1), counts); n != 3 || !already || err != nil {
		t.Errorf("commit after the move: %d records, already %v, %v", n, already, err)
	}
	if _, already, err := l.Staged(ctx, id, tx(1, 1), counts); !already || err != nil {
		t.Errorf("staged after the move: already %v, %v", already, err)
	}
	if tip, _ := l.Tip(id); tip != last {
		t.Errorf("the tip moved to %v", tip)
	}
	stop()
}

// The power goes at a random moment while writers append and the shard is
// sealed. What was acknowledged is there; a shard whose seal was acknowledged
// holds exactly what it held then.
func TestPowerLossAroundASeal(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := parseSeed(); err == nil {
		seed = s
	}
	t.Logf("seed %d (MILLRACE_SEED repeats it)", seed)
	rounds := 300
	if raceEnabled || testing.Short() {
		rounds = 30
	}
	sealedAfter := 0
	for round := range rounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		sealed, err := loseAroundSeal(t.Context(), rng, Options{MemTableBytes: 256 << 10})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if sealed {
			sealedAfter++
		}
	}
	if sealedAfter == 0 || sealedAfter == rounds {
		t.Errorf("the shard was sealed in %d of %d rounds: the cut never falls around it", sealedAfter, rounds)
	}
}

func loseAroundSeal(ctx context.Context, rng *rand.Rand, opt Options) (sealed bool, err error) {
	id := ID{7, 0}
	fs := vfs.NewCrashableMem()
	opt.FS = fs
	l, err := Open("log", opt)
	if err != nil {
		return false, err
	}
	running, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- l.Run(running) }()
	stop := func() { cancel(); <-ran; _ = l.Close() }
	if err := l.Create(ctx, Spec{ID: id}); err != nil {
		stop()
		return false, err
	}
	var mu sync.Mutex
	acked := map[uint64]string{}
	var end *stream.Sequence
	events, cutAt, sealAt := 0, 1+rng.IntN(40), rng.IntN(40)
	due, sealing := make(chan struct{}), make(chan struct{})
	event := func() { // with mu held
		if events++; events == cutAt {
			close(due)
		}
		if events == sealAt {
			close(sealing)
		}
	}
	var wg, writing sync.WaitGroup
	for w := range 3 {
		writing.Add(1)
		wg.Go(func() {
			defer writing.Done()
			for n := range 20 {
				text := fmt.Sprintf("w%d.%d", w, n)
				first, _, err := l.Append(running, id, makeBlock(text))
				if err != nil {
					return
				}
				mu.Lock()
				acked[first.Place()] = text
				event()
				mu.Unlock()
			}
		})
	}
	quiet := make(chan struct{})
	go func() { writing.Wait(); close(quiet) }()
	wg.Go(func() {
		select {
		case <-sealing:
		case <-quiet:
		case <-running.Done():
			return
		}
		if l.Create(running, Spec{ID: id, Sealed: true}) == nil {
			mu.Lock()
			last, _, _ := l.Sealed(id)
			end = &last
			event()
			mu.Unlock()
		}
	})
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	select {
	case <-due:
	case <-written: // the seal came before enough was written
	}
	mu.Lock()
	after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(rng.Uint64(), 1))})
	want, wantEnd := make(map[uint64]string), end
	for place, text := range acked {
		want[place] = text
	}
	mu.Unlock()
	stop()
	<-written
	return checkSealed(ctx, after, opt, id, want, wantEnd)
}

func checkSealed(ctx context.Context, fs *vfs.MemFS, opt Options, id ID, want map[uint64]string, wantEnd *stream.Sequence) (bool, error) {
	c := &loss{fs: fs, opt: opt}
	opt.FS = fs
	l, err := Open("log", opt)
	if err != nil {
		return false, err
	}
	running, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- l.Run(running) }()
	defer func() { cancel(); <-ran; _ = l.Close() }()
	got, err := c.readShard(ctx, l, id)
	if err != nil {
		return false, err
	}
	at := map[uint64]string{}
	for _, p := range got {
		at[p.place] = p.text
	}
	for place, text := range want {
		if at[place] != text {
			return false, broken("record %s was acknowledged at %d, where %q is", text, place, at[place])
		}
	}
	end, sealed, err := l.Sealed(id)
	if err != nil {
		return false, err
	}
	_, _, err = l.Append(ctx, id, makeBlock("late"))
	if refused := stream.KindOf(err) == stream.Closed; refused != sealed || !sealed && err != nil {
		return false, broken("sealed is %v and an append is answered %v", sealed, err)
	}
	if wantEnd != nil && (!sealed || end != *wantEnd) {
		return false, broken("the seal was acknowledged at %v, after the loss it is %v at %v", *wantEnd, sealed, end)
	}
	return sealed, nil
}
