package shardlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/clock"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// The power-loss test runs writers against a log on a file system that can
// lose what was not synced, cuts the power at random moments, opens what is
// left, and compares it with what had been acknowledged before the cut. Then
// it goes on from there, up to the next cut.

const (
	lossesPerChain = 20
	writers        = 3
	retention      = 40 * time.Second
)

var lossShards = []ID{{7, 0}, {7, 1}}

// ledger is what the writers know. Entries are added before a write is tried
// and marked once it is acknowledged.
type ledger struct {
	mu sync.Mutex
	// base are the records that each shard held when the round began.
	base map[ID][]placed
	// appends by record text; tried, maybe acknowledged.
	appends map[string]*appendEntry
	// transactions by shard and number.
	txs   map[ID]map[txEpoch]*txEntry
	fence map[ID]uint64
	acks  int
}

type placed struct {
	place uint64
	text  string
}

type appendEntry struct {
	id    ID
	place uint64    // 0 until acknowledged
	at    time.Time // not after its arrival
}

type txEntry struct {
	subtasks  map[uint32][][]string // staged and acknowledged blocks
	unsure    bool                  // a stage was tried without an answer
	committed bool                  // acknowledged
	tried     bool
	late      bool // tried after the cut: the clone may not even have its blocks
	at        time.Time
}

func (e *txEntry) counts() []*pb.StagedCount {
	var out []*pb.StagedCount
	for subtask, blocks := range e.subtasks {
		c := &pb.StagedCount{Subtask: subtask, Blocks: uint64(len(blocks))}
		for _, b := range blocks {
			c.Records += uint64(len(b))
		}
		out = append(out, c)
	}
	return out
}

// texts are the records of the transaction in the order of commit.
func (e *txEntry) texts() []string {
	var out []string
	for subtask := range uint32(8) {
		for _, b := range e.subtasks[subtask] {
			out = append(out, b...)
		}
	}
	return out
}

// loss is one chain of power losses.
type loss struct {
	rng   *rand.Rand
	now   *clock.Virtual
	fs    *vfs.MemFS
	opt   Options
	epoch uint64
	round int
}

var errLost = errors.New("the log broke a promise")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errLost, fmt.Sprintf(format, args...))
}

// run goes through the chain and returns the number of power losses, with the
// first broken promise.
func (c *loss) run(ctx context.Context) (int, error) {
	led := &ledger{base: make(map[ID][]placed)}
	for c.round = range lossesPerChain {
		l, stop, err := c.open(ctx)
		if err != nil {
			return c.round, broken("round %d: the log does not open: %v", c.round, err)
		}
		if c.round > 0 {
			err = c.check(ctx, l, led)
		}
		if err != nil {
			stop()
			return c.round, fmt.Errorf("round %d: %w", c.round, err)
		}
		led = c.begin(led)
		after, cut := c.write(ctx, l, led)
		stop()
		c.fs, led = after, cut
	}
	return lossesPerChain, nil
}

func (c *loss) open(ctx context.Context) (*Log, func(), error) {
	opt := c.opt
	opt.FS, opt.Clock = c.fs, c.now
	l, err := Open("log", opt)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	var specs []Spec
	for _, id := range lossShards {
		specs = append(specs, Spec{ID: id, Retention: retention})
	}
	stop := func() {
		cancel()
		<-ran
		_ = l.Close()
	}
	if err := l.Create(ctx, specs...); err != nil {
		stop()
		return nil, nil, err
	}
	return l, stop, nil
}

func (c *loss) begin(old *ledger) *ledger {
	led := &ledger{base: old.base, appends: make(map[string]*appendEntry), txs: make(map[ID]map[txEpoch]*txEntry), fence: make(map[ID]uint64)}
	for _, id := range lossShards {
		led.txs[id] = make(map[txEpoch]*txEntry)
	}
	c.epoch++
	return led
}

// write runs the writers until the power is cut, and returns what the disk
// holds then with what was acknowledged before.
func (c *loss) write(ctx context.Context, l *Log, led *ledger) (*vfs.MemFS, *ledger) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cutAt := c.rng.IntN(writers * 20)
	due := make(chan struct{})
	var once sync.Once
	acked := func() { // with led.mu held
		if led.acks++; led.acks >= cutAt {
			once.Do(func() { close(due) })
		}
	}
	var wg sync.WaitGroup
	for w := range writers {
		rng := rand.New(rand.NewPCG(c.rng.Uint64(), uint64(w)))
		wg.Go(func() { c.writer(ctx, l, led, w, rng, acked) })
	}
	wait := make(chan struct{})
	go func() { wg.Wait(); close(wait) }()
	select {
	case <-due:
	case <-wait:
	}
	led.mu.Lock()
	cut := led.clone()
	led.mu.Unlock()
	percent := []int{0, 50, 100, c.rng.IntN(101)}[c.rng.IntN(4)]
	after := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(c.rng.Uint64(), 1))})
	// What was only tried by now may be in the clone as well.
	led.mu.Lock()
	cut.alsoTried(led)
	led.mu.Unlock()
	cancel()
	<-wait
	return after, cut
}

func (led *ledger) clone() *ledger {
	out := &ledger{base: led.base, appends: make(map[string]*appendEntry), txs: make(map[ID]map[txEpoch]*txEntry), fence: make(map[ID]uint64)}
	for text, e := range led.appends {
		copied := *e
		out.appends[text] = &copied
	}
	for id, txs := range led.txs {
		out.txs[id] = make(map[txEpoch]*txEntry)
		for te, e := range txs {
			copied := *e
			copied.subtasks = make(map[uint32][][]string)
			for subtask, blocks := range e.subtasks {
				copied.subtasks[subtask] = append([][]string(nil), blocks...)
			}
			out.txs[id][te] = &copied
		}
	}
	for id, epoch := range led.fence {
		out.fence[id] = epoch
	}
	return out
}

func (led *ledger) alsoTried(later *ledger) {
	for text, e := range later.appends {
		if led.appends[text] == nil {
			led.appends[text] = &appendEntry{id: e.id, at: e.at}
		}
	}
	for id, txs := range later.txs {
		for te, e := range txs {
			mine := led.txs[id][te]
			if mine == nil {
				led.txs[id][te] = &txEntry{subtasks: e.subtasks, unsure: true, tried: e.tried, late: true, at: e.at}
				continue
			}
			if len(e.texts()) != len(mine.texts()) || e.unsure {
				mine.unsure = true
			}
			if e.tried && !mine.tried {
				mine.tried, mine.late, mine.subtasks = true, true, e.subtasks
			}
		}
	}
}

// writer does what one client does: it waits for each answer.
func (c *loss) writer(ctx context.Context, l *Log, led *ledger, w int, rng *rand.Rand, acked func()) {
	// A few more than fit before the cut, so that it falls into their midst.
	for n := 0; n < 30 && ctx.Err() == nil; n++ {
		id := lossShards[rng.IntN(len(lossShards))]
		switch p := rng.IntN(100); {
		case p < 60:
			c.append(ctx, l, led, id, fmt.Sprintf("r%d.w%d.%d", c.round, w, n), 1+rng.IntN(3), acked)
		case p < 95:
			c.transaction(ctx, l, led, id, w, n, rng, acked)
		case p < 97:
			c.now.Advance(time.Duration(rng.IntN(5000)) * time.Millisecond)
			_ = l.Create(ctx, Spec{ID: id, Retention: retention})
		default:
			led.mu.Lock()
			epoch := c.epoch
			led.mu.Unlock()
			if _, err := l.Fence(ctx, id, "lineage", "sink", epoch, nil); err == nil {
				led.mu.Lock()
				led.fence[id] = epoch
				acked()
				led.mu.Unlock()
			}
		}
	}
}

func (c *loss) append(ctx context.Context, l *Log, led *ledger, id ID, name string, records int, acked func()) {
	var names []string
	led.mu.Lock()
	for i := range records {
		text := fmt.Sprintf("%s.%d", name, i)
		names = append(names, text)
		led.appends[text] = &appendEntry{id: id, at: c.now.Now()}
	}
	led.mu.Unlock()
	first, _, err := l.Append(ctx, id, makeBlock(names...))
	if err != nil {
		return
	}
	led.mu.Lock()
	defer led.mu.Unlock()
	for i, text := range names {
		led.appends[text].place = first.Place() + uint64(i)
	}
	acked()
}

// transaction stages blocks of a new transaction, each writer alone, and may
// commit it.
func (c *loss) transaction(ctx context.Context, l *Log, led *ledger, id ID, w, n int, rng *rand.Rand, acked func()) {
	te := txEpoch{c.epoch, uint64(n*writers + w)}
	e := &txEntry{subtasks: make(map[uint32][][]string), at: c.now.Now()}
	led.mu.Lock()
	led.txs[id][te] = e
	led.mu.Unlock()
	for subtask := range uint32(1 + rng.IntN(2)) {
		for number := range 1 + rng.IntN(2) {
			names := []string{fmt.Sprintf("t%d.%d.%d.%d.0", te.epoch, te.checkpoint, subtask, number), fmt.Sprintf("t%d.%d.%d.%d.1", te.epoch, te.checkpoint, subtask, number)}
			led.mu.Lock()
			e.unsure = true
			led.mu.Unlock()
			if err := l.Stage(ctx, id, tx(te.epoch, te.checkpoint), subtask, uint64(number), makeBlock(names...)); err != nil {
				return
			}
			led.mu.Lock()
			e.unsure = false
			e.subtasks[subtask] = append(e.subtasks[subtask], names)
			acked()
			led.mu.Unlock()
		}
	}
	if rng.IntN(3) == 0 {
		return // left staged
	}
	led.mu.Lock()
	e.tried = true
	counts := e.counts()
	led.mu.Unlock()
	if _, _, err := l.Commit(ctx, id, tx(te.epoch, te.checkpoint), counts); err != nil {
		return
	}
	led.mu.Lock()
	e.committed = true
	acked()
	led.mu.Unlock()
}

// check compares the log with the ledger of the round before, finishes that
// round's transactions as a restored job would, and leaves the log's records
// as the base of the next round.
func (c *loss) check(ctx context.Context, l *Log, led *ledger) error {
	for _, id := range lossShards {
		got, err := c.readShard(ctx, l, id)
		if err != nil {
			return err
		}
		if err := c.checkShard(id, got, led); err != nil {
			return fmt.Errorf("shard %v: %w\nit holds %v", id, err, got)
		}
		if err := c.restore(ctx, l, id, led); err != nil {
			return fmt.Errorf("shard %v: %w", id, err)
		}
		if got, err = c.readShard(ctx, l, id); err != nil {
			return err
		}
		if err := c.checkShard(id, got, led); err != nil {
			return fmt.Errorf("shard %v after the restore: %w", id, err)
		}
		led.base[id] = got
	}
	return nil
}

// restore fences the old epoch, keeping what was staged completely, commits
// that, and proves that the rest is gone and stays away.
func (c *loss) restore(ctx context.Context, l *Log, id ID, led *ledger) error {
	var keep []*pb.Transaction
	for te, e := range led.txs[id] {
		if e.tried || !e.unsure && len(e.subtasks) > 0 && c.rng.IntN(2) == 0 {
			keep = append(keep, tx(te.epoch, te.checkpoint))
		}
	}
	if _, err := l.Fence(ctx, id, "lineage", "sink", c.epoch+1, keep); err != nil {
		return broken("fence: %v", err)
	}
	kept := make(map[txEpoch]bool)
	for _, k := range keep {
		te := txEpoch{k.GetEpoch(), k.GetCheckpoint()}
		kept[te] = true
		e := led.txs[id][te]
		n, already, err := l.Commit(ctx, id, k, e.counts())
		if e.late && err != nil {
			e.tried = false // and so must not be visible
			continue
		}
		if e.late && n == 0 {
			continue // so old that it may be there or not
		}
		if err != nil {
			return broken("commit of %v after the restore, whose blocks were all acknowledged: %v", te, err)
		}
		if e.committed && !already {
			return broken("%v was committed and acknowledged, yet committed again", te)
		}
		e.tried, e.committed = true, true
		if _, again, err := l.Commit(ctx, id, k, e.counts()); err != nil || !again {
			return broken("second commit of %v: already=%v, %v", te, again, err)
		}
	}
	for te, e := range led.txs[id] {
		if kept[te] || len(e.subtasks) == 0 {
			continue
		}
		// Of one older than all that the shard remembers it says that it is old;
		// the check after the restore then finds that nothing became visible.
		if n, already, err := l.Commit(ctx, id, tx(te.epoch, te.checkpoint), e.counts()); err == nil && (n > 0 || !already) {
			return broken("%v was fenced, yet a commit makes %d records visible", te, n)
		}
	}
	if err := l.Stage(ctx, id, tx(c.epoch, 1<<40), 0, 0, makeBlock("zombie")); stream.KindOf(err) != stream.StaleEpoch {
		return broken("a block of a fenced epoch was staged: %v", err)
	}
	return nil
}

func (c *loss) readShard(ctx context.Context, l *Log, id ID) ([]placed, error) {
	var out []placed
	at := stream.Position{From: stream.FromTrimHorizon}
	for {
		a, err := l.Read(ctx, id, ReadRequest{At: at, MaxRecords: 1000, MaxBytes: 1 << 20})
		if err != nil {
			return nil, broken("read: %v", err)
		}
		if a.Records == nil {
			return out, nil
		}
		it := a.Records.Records()
		for r := (block.Record{}); it.Next(&r); {
			if n := len(out); n > 0 && r.Sequence.Place() != out[n-1].place+1 {
				return nil, broken("record %d follows record %d", r.Sequence.Place(), out[n-1].place)
			}
			out = append(out, placed{r.Sequence.Place(), string(r.Data)})
		}
		at = stream.Position{From: stream.FromAfterSequence, Sequence: a.Next}
	}
}

func (c *loss) checkShard(id ID, got []placed, led *ledger) error {
	at := make(map[string]uint64, len(got))
	var first uint64
	for i, p := range got {
		if i == 0 {
			first = p.place
		}
		if at[p.text] != 0 {
			return broken("record %s is there twice", p.text)
		}
		at[p.text] = p.place
	}
	base := make(map[string]bool)
	for _, p := range led.base[id] {
		base[p.text] = true
		if at[p.text] != p.place && len(got) > 0 && p.place >= first {
			return broken("record %s was at %d before, is at %d now", p.text, p.place, at[p.text])
		}
	}
	cutoff := c.now.Now().Add(-retention)
	for text, e := range led.appends {
		if e.id == id && e.place != 0 && e.at.After(cutoff) && at[text] != e.place {
			return broken("record %s was acknowledged at %d, is at %d", text, e.place, at[text])
		}
	}
	for te, e := range led.txs[id] {
		texts := e.texts()
		if len(texts) == 0 || !e.at.After(cutoff) {
			continue
		}
		seen := 0
		for i, text := range texts {
			if at[text] == 0 {
				continue
			}
			seen++
			if at[text] != at[texts[0]]+uint64(i) {
				return broken("transaction %v: record %s is out of place", te, text)
			}
		}
		if seen > 0 && !e.tried {
			return broken("transaction %v is visible without a commit", te)
		}
		if seen != 0 && seen != len(texts) || seen == 0 && e.committed {
			return broken("transaction %v: %d of %d records are visible, committed: %v", te, seen, len(texts), e.committed)
		}
	}
	return c.checkOrder(id, got, base, led)
}

// checkOrder holds records against what was tried, and each writer's order.
func (c *loss) checkOrder(id ID, got []placed, base map[string]bool, led *ledger) error {
	last := make(map[string]int)
	for _, p := range got {
		if base[p.text] || strings.HasPrefix(p.text, "t") {
			continue
		}
		if e := led.appends[p.text]; e == nil || e.id != id {
			return broken("record %s was never written here", p.text)
		}
		var round, w, n, i int
		if _, err := fmt.Sscanf(p.text, "r%d.w%d.%d.%d", &round, &w, &n, &i); err != nil {
			return broken("record %q: %v", p.text, err)
		}
		writer := fmt.Sprint(round, w)
		if now := n*10 + i + 1; now <= last[writer] {
			return broken("record %s is behind a later one of its writer", p.text)
		} else {
			last[writer] = now
		}
	}
	return nil
}

func cutPower(t *testing.T, chains int, opt Options) (losses int, first error) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s, err := parseSeed(); err == nil {
		seed = s
	}
	t.Logf("seed %d (MILLRACE_SEED repeats it)", seed)
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := 0
	for range goruntime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				over := first != nil || i >= chains
				mu.Unlock()
				if over {
					return
				}
				c := &loss{rng: rand.New(rand.NewPCG(seed, uint64(i))), now: clock.NewVirtual(time.UnixMilli(1_700_000_000_000)), fs: vfs.NewCrashableMem(), opt: opt}
				n, err := c.run(t.Context())
				mu.Lock()
				losses += n
				if err != nil && first == nil {
					first = fmt.Errorf("chain %d: %w", i, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return losses, first
}

func TestPowerLossTakesNothingThatWasAcknowledged(t *testing.T) {
	chains := 100
	if raceEnabled || testing.Short() {
		chains = 10
	}
	start := time.Now()
	losses, err := cutPower(t, chains, Options{MemTableBytes: 256 << 10})
	t.Logf("%d power losses in %v", losses, time.Since(start).Round(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if want := chains * lossesPerChain; losses != want {
		t.Errorf("%d power losses, want %d", losses, want)
	}
}

// Without the fsync the same test must fail: it would notice.
func TestPowerLossWithoutSyncIsNoticed(t *testing.T) {
	if _, err := cutPower(t, 20, Options{MemTableBytes: 256 << 10, withoutSync: true}); !errors.Is(err, errLost) {
		t.Errorf("with the fsync left out the test found %v, want a broken promise", err)
	} else {
		t.Logf("found, as it should: %.200s", err)
	}
}
