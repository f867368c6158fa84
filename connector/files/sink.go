package files

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/sdk"
)

// Bounds and defaults.
const (
	defaultRoll = 128 << 20
	maxRoll     = 4 << 30 // stores copy at most 5 GiB at once
	// openParts is how many parts a subtask writes at a time. With one more
	// partition, the part that has been quiet for longest ends.
	openParts = 32
	// spillBytes is how much of a part is held before it goes to the bucket as
	// it grows, in chunks of chunkBytes.
	spillBytes = 4 << 20
	chunkBytes = 256 << 10
	// uploads is how many whole parts a subtask uploads at a time.
	uploads = 4
	// patience is how long the upload of a whole part that fails is repeated;
	// one that is streamed cannot be.
	patience = 2 * time.Minute
)

// Parts is an exactly-once sink of files. Its methods return changed copies.
type Parts[T any] struct {
	location  string
	format    Format[T]
	partition func(T) string
	roll      int64
	gzip      bool
	spillAt   int
	patience  time.Duration
}

// Sink writes files in the given format to a location: a folder, made if it is
// not there, or a bucket (s3://bucket/prefix?endpoint=host:port&region=r, see
// package blob for the parameters and where credentials come from).
func Sink[T any](location string, format Format[T]) Parts[T] {
	return Parts[T]{location: location, format: format, roll: defaultRoll, spillAt: spillBytes, patience: patience}
}

// PartitionBy puts records into folders: of returns a path of segments
// separated by slashes, such as "day=2001-01-01", or "" for the location itself. Few
// partitions should be written at a time: a subtask has at most 32 parts open,
// each of which takes up to 4 MiB of memory, and 16 MiB more once it is larger
// than that and goes to S3.
func (p Parts[T]) PartitionBy(of func(v T) string) Parts[T] {
	p.partition = of
	return p
}

// RollAt ends a part that has this many bytes as it is stored, 128 MiB without
// it; each checkpoint ends all parts anyway.
func (p Parts[T]) RollAt(bytes int64) Parts[T] {
	p.roll = bytes
	return p
}

// Gzip compresses each part; its name ends in .gz.
func (p Parts[T]) Gzip() Parts[T] {
	p.gzip = true
	return p
}

// Name is the sink's name in the job graph: to- and the last segment of the
// location.
func (p Parts[T]) Name() string {
	at, _, _ := strings.Cut(p.location, "?")
	return "to-" + path.Base(strings.TrimRight(at, "/"))
}

// Patient implements sdk.PatientSink: early checkpoints would make small files.
func (p Parts[T]) Patient() bool { return true }

// Check is asked in plan mode.
func (p Parts[T]) Check() error {
	if p.location == "" {
		return errors.New("files: the location is empty: give a folder or an s3:// URL")
	}
	if p.format == nil {
		return fmt.Errorf("files: the sink to %s needs a format, such as files.JSON", p.location)
	}
	if e := p.format.Extension(); e == "" || strings.ContainsAny(e, "/\\") {
		return fmt.Errorf("files: the extension %q of the format: letters and dots are wanted", e)
	}
	if p.roll < 1 || p.roll > maxRoll {
		return fmt.Errorf("files: parts of %d bytes: RollAt takes 1 byte to 4 GiB", p.roll)
	}
	if c, ok := p.format.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

// Open implements sdk.Sink.
func (p Parts[T]) Open(ctx context.Context, env sdk.SinkEnv) (sdk.Writer[T], error) {
	at, err := enter(ctx, p.location)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	return newWriter(ctx, p, env, at), nil
}

// Recover implements sdk.Transactional.
func (p Parts[T]) Recover(ctx context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	return p.settling(ctx, env, handles, true)
}

// Commit implements sdk.Transactional.
func (p Parts[T]) Commit(ctx context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	if len(handles) == 0 {
		return nil
	}
	return p.settling(ctx, env, handles, false)
}

func (p Parts[T]) settling(ctx context.Context, env sdk.SinkEnv, handles []sdk.Handle, recovering bool) error {
	at, err := enter(ctx, p.location)
	if err != nil {
		return fmt.Errorf("files: %w", err)
	}
	defer at.release()
	c := committer{bucket: at, env: env}
	if recovering {
		err = c.recover(ctx, handles)
	} else {
		err = c.commit(ctx, handles)
	}
	if err != nil {
		return fmt.Errorf("files in %s: %w", at.URL(), err)
	}
	return nil
}

// staging is the folder of what is not committed.
const staging = ".staged"

// idOf names a sink of a lineage in keys.
func idOf(lineage, uid string) string {
	sum := sha256.Sum256([]byte(lineage + "\x00" + uid))
	return hex.EncodeToString(sum[:8])
}

func ledgerKey(id string) string { return staging + "/" + id + "/ledger" }

// stagedFolder holds the staged parts of one epoch, with a slash at the end.
func stagedFolder(id string, epoch uint64) string {
	return fmt.Sprintf("%s/%s/%d/", staging, id, epoch)
}

// checkPartition refuses partitions that are no place for a part.
func checkPartition(partition string) error {
	if partition == "" {
		return nil
	}
	for segment := range strings.SplitSeq(partition, "/") {
		if strings.HasPrefix(segment, ".") {
			return fmt.Errorf("partition %q: a segment begins with a dot, which hides its files", partition)
		}
	}
	if len(partition) > blob.MaxKeyBytes-blob.MaxSegmentBytes {
		return fmt.Errorf("partition %.40q…: it has %d bytes, %d are the limit", partition, len(partition), blob.MaxKeyBytes-blob.MaxSegmentBytes)
	}
	return blob.ValidateKey(partition)
}

func token() string {
	var b [3]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
