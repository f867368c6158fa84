package journal

import (
	"context"
	"errors"
	"log/slog"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Read folds the journal of a bucket without taking leadership: for tools.
func Read(ctx context.Context, bucket blob.Bucket) (*pb.JournalSnapshot, error) {
	fold, _, err := read(ctx, bucket, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	id, _, err := bucket.Get(ctx, clusterKey, 0, -1)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return nil, api.Errorf(api.BucketUnavailable, "bucket %s: read cluster id: %w", bucket.URL(), err)
	}
	fold.ClusterId = string(id)
	return fold, nil
}

// errTrimmed says that a leader trimmed what was being read.
var errTrimmed = errors.New("journal was trimmed while it was read")

// read folds the newest readable snapshot and the records behind it, and
// returns the numbers of the snapshots that exist.
func read(ctx context.Context, bucket blob.Bucket, log *slog.Logger) (*pb.JournalSnapshot, []uint64, error) {
	var err error
	for range 10 {
		var fold *pb.JournalSnapshot
		var snapshots []uint64
		fold, snapshots, err = readOnce(ctx, bucket, log)
		if !errors.Is(err, errTrimmed) {
			return fold, snapshots, err
		}
	}
	return nil, nil, api.Errorf(api.JournalCorrupt, "bucket %s: journal has holes behind its snapshots: %w", bucket.URL(), err)
}

func readOnce(ctx context.Context, bucket blob.Bucket, log *slog.Logger) (*pb.JournalSnapshot, []uint64, error) {
	unavailable := func(what string, err error) error {
		return api.Errorf(api.BucketUnavailable, "bucket %s: %s: %w", bucket.URL(), what, err)
	}
	var snapshots []uint64
	err := bucket.List(ctx, snapshotPrefix, func(i blob.Info) error {
		if n, ok := numberOf(i.Key, snapshotPrefix); ok {
			snapshots = append(snapshots, n)
		}
		return nil
	})
	if err != nil {
		return nil, nil, unavailable("list journal snapshots", err)
	}
	fold, err := newestSnapshot(ctx, bucket, snapshots, log)
	if err != nil {
		return nil, nil, err
	}
	first := fold.GetLastRecord() + 1
	last := fold.GetLastRecord()
	err = bucket.List(ctx, recordPrefix, func(i blob.Info) error {
		if n, ok := numberOf(i.Key, recordPrefix); ok {
			last = max(last, n)
		}
		return nil
	})
	if err != nil {
		return nil, nil, unavailable("list journal records", err)
	}
	for n := first; n <= last; n++ {
		data, _, err := bucket.Get(ctx, recordKey(n), 0, -1)
		if errors.Is(err, blob.ErrNotFound) {
			return nil, nil, missing(ctx, bucket, n)
		}
		if err != nil {
			return nil, nil, unavailable("read journal record", err)
		}
		var r pb.JournalRecord
		if err := decode(recordKey(n), recordMagic, data, &r); err != nil {
			return nil, nil, err
		}
		Apply(fold, n, &r)
	}
	return fold, snapshots, nil
}

// newestSnapshot reads snapshots from the newest down until one is whole.
func newestSnapshot(ctx context.Context, bucket blob.Bucket, snapshots []uint64, log *slog.Logger) (*pb.JournalSnapshot, error) {
	var damaged error
	for i := len(snapshots) - 1; i >= 0; i-- {
		key := snapshotKey(snapshots[i])
		data, _, err := bucket.Get(ctx, key, 0, -1)
		if errors.Is(err, blob.ErrNotFound) {
			return nil, errTrimmed
		}
		if err != nil {
			return nil, api.Errorf(api.BucketUnavailable, "bucket %s: read %s: %w", bucket.URL(), key, err)
		}
		s := &pb.JournalSnapshot{}
		if err := decode(key, snapshotMagic, data, s); err != nil {
			log.Error("journal snapshot is damaged, taking an older one", "object", key, "error", err)
			damaged = errors.Join(damaged, err)
			continue
		}
		return s, nil
	}
	// Without a snapshot the records must begin at 1; where they were
	// trimmed, the hole is found when record 1 is read.
	if damaged != nil && len(snapshots) > 1 {
		return nil, damaged
	}
	return &pb.JournalSnapshot{}, nil
}

// missing tells a hole in the journal from a journal that was trimmed
// meanwhile: trimming past n leaves a snapshot at or above it.
func missing(ctx context.Context, bucket blob.Bucket, n uint64) error {
	trimmed := false
	err := bucket.List(ctx, snapshotPrefix, func(i blob.Info) error {
		if m, ok := numberOf(i.Key, snapshotPrefix); ok && m >= n {
			trimmed = true
		}
		return nil
	})
	if err != nil {
		return api.Errorf(api.BucketUnavailable, "bucket %s: list journal snapshots: %w", bucket.URL(), err)
	}
	if trimmed {
		return errTrimmed
	}
	return api.Errorf(api.JournalCorrupt, "journal object %s is missing, but later ones exist", recordKey(n))
}
