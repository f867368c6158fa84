package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/clock"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// SnapshotEvery is the number of records between two snapshots of the fold.
const SnapshotEvery = 256

// ErrLeadershipLost says that another process has written to the journal:
// whoever gets it must step down.
var ErrLeadershipLost error = &api.Error{Code: api.LeadershipLost, Message: "another job manager has written to the journal of this bucket"}

// Options of Open. The zero value is the default.
type Options struct {
	// LeaderID is written into LeaderElected, for people.
	LeaderID string
	Clock    clock.Clock
	Log      *slog.Logger
	// Every replaces SnapshotEvery.
	Every uint64
	// RetryAfter is the first pause after an error of the bucket (50 ms); it
	// doubles up to 2 s.
	RetryAfter time.Duration
}

// Journal is the journal as its leader writes it. Invariants:
//
//  1. fold is the fold of all records up to fold.LastRecord, each of which
//     exists in the bucket.
//  2. unsettled is nil, or the record whose fate at fold.LastRecord+1 is not
//     known: it may exist, exist later, or never.
//  3. Record fold.LastRecord exists while this process leads: it trims only
//     what is at least Every records behind.
type Journal struct {
	bucket blob.Bucket
	opt    Options
	lost   chan struct{}

	// writing is held (one token) by the append under way: it spans calls to
	// the bucket, which a mutex must not.
	writing chan struct{}
	// Owned by the holder of writing.
	unsettled *pb.JournalRecord
	snapshots []uint64 // that exist, ascending
	deposed   bool

	mu struct {
		sync.RWMutex
		fold *pb.JournalSnapshot
	}
}

// Open reads the journal and takes leadership by appending LeaderElected.
func Open(ctx context.Context, bucket blob.Bucket, opt Options) (*Journal, error) {
	if opt.Clock == nil {
		opt.Clock = clock.System
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.Every == 0 {
		opt.Every = SnapshotEvery
	}
	if opt.RetryAfter == 0 {
		opt.RetryAfter = 50 * time.Millisecond
	}
	j := &Journal{bucket: bucket, opt: opt, lost: make(chan struct{}), writing: make(chan struct{}, 1)}
	cluster, err := clusterID(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("take leadership: %w", err)
	}
	// A collision here only means that another process wrote first; its
	// record is read and the next number tried. Elections are rare, so this
	// ends.
	for {
		fold, snapshots, err := read(ctx, bucket, opt.Log)
		if err != nil {
			return nil, fmt.Errorf("take leadership: %w", err)
		}
		fold.ClusterId = cluster
		j.mu.fold, j.snapshots, j.deposed = fold, snapshots, false
		err = j.write(ctx, &pb.JournalRecord{
			LeaderEpoch: fold.GetLeaderEpoch() + 1,
			Body:        &pb.JournalRecord_Leader{Leader: &pb.LeaderElected{LeaderId: opt.LeaderID}},
		}, func(*pb.JournalSnapshot) error { return nil })
		switch {
		case err == nil:
			return j, nil
		case !errors.Is(err, ErrLeadershipLost):
			return nil, fmt.Errorf("take leadership: %w", err)
		}
	}
}

// clusterID reads the cluster's id, giving it one where it has none.
func clusterID(ctx context.Context, bucket blob.Bucket) (string, error) {
	var b [16]byte
	rand.Read(b[:])
	id := hex.EncodeToString(b[:])
	_, err := bucket.PutIfAbsent(ctx, clusterKey, []byte(id))
	if err == nil {
		return id, nil
	}
	data, _, getErr := bucket.Get(ctx, clusterKey, 0, -1)
	if getErr != nil {
		return "", api.Errorf(api.BucketUnavailable, "bucket %s: read cluster id: %w", bucket.URL(), errors.Join(err, getErr))
	}
	return string(data), nil
}

// Append writes a record durably and folds it in. It sets the record's leader
// epoch, nonce and time. While the bucket fails it tries again until ctx ends;
// then the record may or may not have been written, which the next Append
// settles. After ErrLeadershipLost every call returns it.
func (j *Journal) Append(ctx context.Context, r *pb.JournalRecord) error {
	return j.AppendIf(ctx, r, func(*pb.JournalSnapshot) error { return nil })
}

// AppendIf is Append if allowed returns no error for the fold of all records
// before this one: nothing comes in between. Its error is returned as it is,
// and then the record is not in the journal and never will be. allowed must
// neither keep nor change the fold.
func (j *Journal) AppendIf(ctx context.Context, r *pb.JournalRecord, allowed func(*pb.JournalSnapshot) error) error {
	select {
	case j.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("append to journal: %w", ctx.Err())
	}
	defer func() { <-j.writing }()
	if j.deposed {
		return ErrLeadershipLost
	}
	r.LeaderEpoch = j.Epoch()
	err := j.write(ctx, r, allowed)
	if errors.Is(err, ErrLeadershipLost) {
		close(j.lost)
	}
	return err
}

// write needs the token, or that nobody else knows j.
func (j *Journal) write(ctx context.Context, r *pb.JournalRecord, allowed func(*pb.JournalSnapshot) error) error {
	r.Nonce = make([]byte, 16)
	rand.Read(r.Nonce)
	r.AtMs = j.opt.Clock.Now().UnixMilli()
	data, err := encode(recordMagic, r)
	if err != nil {
		return fmt.Errorf("append to journal: %w", err)
	}
	pause := j.opt.RetryAfter
	judged := uint64(0)
	for {
		n := j.last() + 1
		if judged != n {
			// An earlier record of ours that turned out to be there is in the
			// fold only now.
			var refused error
			j.View(func(fold *pb.JournalSnapshot) { refused = allowed(fold) })
			if refused != nil {
				return refused
			}
			judged = n
		}
		settled, err := j.try(ctx, n, r, data)
		if err == nil && settled {
			j.snapshot(ctx)
			return nil
		}
		if errors.Is(err, ErrLeadershipLost) {
			j.deposed = true
			return err
		}
		if err == nil {
			continue
		}
		j.unsettled = r
		if errors.Is(err, errCorrupt) {
			return fmt.Errorf("append journal record %d: %w", n, err)
		}
		j.opt.Log.Warn("journal write failed, trying again", "record", n, "after", pause, "error", err)
		if !j.sleep(ctx, pause) {
			return api.Errorf(api.BucketUnavailable, "append journal record %d: %w", n, errors.Join(err, ctx.Err()))
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// try writes the record as number n once. It returns true when the record is
// written and folded; false without an error when n turned out to hold an
// earlier record of ours, now folded, so that the next number is to be tried.
func (j *Journal) try(ctx context.Context, n uint64, r *pb.JournalRecord, data []byte) (bool, error) {
	_, err := j.bucket.PutIfAbsent(ctx, recordKey(n), data)
	if err == nil {
		if err := j.confirm(ctx, n); err != nil {
			return false, err
		}
		j.fold(n, r)
		return true, nil
	}
	if !errors.Is(err, blob.ErrExists) {
		return false, err
	}
	held, _, err := j.bucket.Get(ctx, recordKey(n), 0, -1)
	if err != nil {
		return false, fmt.Errorf("read back record %d: %w", n, err)
	}
	var other pb.JournalRecord
	if err := decode(recordKey(n), recordMagic, held, &other); err != nil {
		return false, err
	}
	switch {
	case bytes.Equal(other.GetNonce(), r.GetNonce()):
		if err := j.confirm(ctx, n); err != nil {
			return false, err
		}
		j.fold(n, r)
		return true, nil
	case j.unsettled != nil && bytes.Equal(other.GetNonce(), j.unsettled.GetNonce()):
		if err := j.confirm(ctx, n); err != nil {
			return false, err
		}
		j.fold(n, j.unsettled)
		return false, nil
	}
	return false, ErrLeadershipLost
}

// confirm finds out whether number n was free because this process is the
// leader, or because a newer leader has trimmed the journal past it while this
// one was stopped. A leader's previous record always exists (invariant 3), and
// trimming deletes in ascending order: n free and n-1 gone means deposed.
func (j *Journal) confirm(ctx context.Context, n uint64) error {
	if n == 1 {
		return nil
	}
	_, _, err := j.bucket.Get(ctx, recordKey(n-1), 0, 1)
	if errors.Is(err, blob.ErrNotFound) {
		// Best effort: what lies below a snapshot is never read.
		_ = j.bucket.Delete(ctx, recordKey(n))
		return ErrLeadershipLost
	}
	return err
}

func (j *Journal) fold(n uint64, r *pb.JournalRecord) {
	j.mu.Lock()
	Apply(j.mu.fold, n, r)
	j.mu.Unlock()
	j.unsettled = nil
}

// snapshot writes the fold where one is due and trims. A failure costs only
// time at the next start: the next append tries again.
func (j *Journal) snapshot(ctx context.Context) {
	n := j.last()
	newest := uint64(0)
	if len(j.snapshots) > 0 {
		newest = j.snapshots[len(j.snapshots)-1]
	}
	if n-newest < j.opt.Every {
		return
	}
	data, err := encode(snapshotMagic, j.State())
	if err == nil {
		_, err = j.bucket.PutIfAbsent(ctx, snapshotKey(n), data)
	}
	if err != nil && !errors.Is(err, blob.ErrExists) {
		j.opt.Log.Warn("journal snapshot failed", "record", n, "error", err)
		return
	}
	j.snapshots = append(j.snapshots, n)
	if err := j.trim(ctx); err != nil {
		j.opt.Log.Warn("journal was not trimmed", "record", n, "error", err)
	}
}

// trim keeps the two newest snapshots and the records behind the older one:
// the older serves when the newer is damaged, and its records keep a leader
// that was stopped for long from finding its number free.
func (j *Journal) trim(ctx context.Context) error {
	for len(j.snapshots) > 2 {
		if err := j.bucket.Delete(ctx, snapshotKey(j.snapshots[0])); err != nil {
			return err
		}
		j.snapshots = j.snapshots[1:]
	}
	if len(j.snapshots) < 2 {
		return nil
	}
	var stale []string
	end := recordKey(j.snapshots[0])
	err := j.bucket.List(ctx, recordPrefix, func(i blob.Info) error {
		if i.Key > end {
			return errEndOfList
		}
		stale = append(stale, i.Key)
		return nil
	})
	if err != nil && !errors.Is(err, errEndOfList) {
		return err
	}
	for _, key := range stale { // ascending: see confirm
		if err := j.bucket.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

var errCorrupt error = &api.Error{Code: api.JournalCorrupt}

var errEndOfList = errors.New("end of list")

// State returns a copy of the fold.
func (j *Journal) State() *pb.JournalSnapshot {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return proto.Clone(j.mu.fold).(*pb.JournalSnapshot)
}

// View calls f with the fold itself, which f must neither keep nor change.
func (j *Journal) View(f func(*pb.JournalSnapshot)) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	f(j.mu.fold)
}

// Epoch is the epoch of this leader.
func (j *Journal) Epoch() (epoch uint64) {
	j.View(func(s *pb.JournalSnapshot) { epoch = s.GetLeaderEpoch() })
	return epoch
}

// ClusterID is the id of the cluster whose journal this is.
func (j *Journal) ClusterID() (id string) {
	j.View(func(s *pb.JournalSnapshot) { id = s.GetClusterId() })
	return id
}

// Lost is closed once an append has met another leader.
func (j *Journal) Lost() <-chan struct{} { return j.lost }

func (j *Journal) last() (n uint64) {
	j.View(func(s *pb.JournalSnapshot) { n = s.GetLastRecord() })
	return n
}

// sleep waits on the journal's clock; false when ctx ended first.
func (j *Journal) sleep(ctx context.Context, d time.Duration) bool {
	woken := make(chan struct{})
	stop := j.opt.Clock.AfterFunc(d, func() { close(woken) })
	defer stop()
	select {
	case <-woken:
		return true
	case <-ctx.Done():
		return false
	}
}
