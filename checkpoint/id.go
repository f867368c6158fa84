package checkpoint

import (
	"fmt"
	"strconv"
	"strings"
)

// ID numbers the checkpoints and savepoints of a job. It rises for as long as
// the job lives, across attempts and, with a restore, across jobs.
type ID uint64

func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseID is the inverse of String.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("checkpoint id %q is not a number", s)
	}
	return ID(n), nil
}

// Kinds of pb.OperatorEntry that the master reads.
const (
	// EntrySplit is one split of a source: key is its id, value an encoded
	// pb.Split with position, end and watermark.
	EntrySplit = "split"
	// EntryHandle is what one subtask of a transactional sink prepared; the
	// value is the sink's own.
	EntryHandle = "handle"
	// EntryWatermark is the watermark of an operator's input.
	EntryWatermark = "watermark"
	// EntryInFlight is a batch of records that a barrier has overtaken
	// (docs/formats/inflight.md); the key is the input of the vertex's first
	// operator.
	EntryInFlight = "in-flight"
)

// DefaultSavepoints is the bucket prefix of savepoints that name none.
const DefaultSavepoints = "savepoints"

// JobPrefix holds everything of a job that is not the user's.
func JobPrefix(job string) string { return "jobs/" + job + "/" }

// ManifestKey is the manifest of a checkpoint.
func ManifestKey(job string, epoch uint64, id ID) string {
	return fmt.Sprintf("jobs/%s/checkpoints/%d-%d", job, epoch, id)
}

// StatePrefix is the Deploy.state_prefix of an attempt.
func StatePrefix(job string, epoch uint64) string {
	return fmt.Sprintf("jobs/%s/state/%d-", job, epoch)
}

// StateObject is the object that a worker (by its index in Deploy.workers)
// writes for one checkpoint. triggerPrefix is TriggerCheckpoint.state_prefix:
// set for savepoints, whose objects it wholly names but for the worker.
func StateObject(deployPrefix, triggerPrefix string, id ID, worker uint32) string {
	if triggerPrefix != "" {
		return fmt.Sprintf("%s%d", triggerPrefix, worker)
	}
	return fmt.Sprintf("%s%d-%d", deployPrefix, id, worker)
}

// MergedObject is an object with runs that a worker merged beside checkpoints,
// after the one of this id had completed; n is the worker's count.
func MergedObject(deployPrefix string, id ID, worker uint32, n int) string {
	return fmt.Sprintf("%s%d-%d-%d", deployPrefix, id, worker, n)
}

// SavepointPath is the bucket prefix that people know a savepoint by. The
// epoch keeps a writer of an earlier attempt out of it.
func SavepointPath(directory, job string, epoch uint64, id ID) string {
	directory = strings.Trim(directory, "/")
	if directory == "" {
		directory = DefaultSavepoints
	}
	return fmt.Sprintf("%s/%s-%d-%d", directory, job, epoch, id)
}

// SavepointManifest is the manifest of a savepoint by its path.
func SavepointManifest(path string) string { return strings.TrimSuffix(path, "/") + "/manifest" }

// PathOf is the inverse of SavepointManifest; a manifest of a checkpoint is
// its own path.
func PathOf(manifest string) string { return strings.TrimSuffix(manifest, "/manifest") }

// ManifestKeys are the objects that a user's path may mean: the path of a
// savepoint as it was printed, its manifest, or the manifest of a checkpoint;
// with the bucket's URL before it or without.
func ManifestKeys(bucketURL, path string) []string {
	path = strings.TrimPrefix(path, strings.TrimSuffix(bucketURL, "/")+"/")
	path = strings.Trim(path, "/")
	if strings.HasSuffix(path, "/manifest") {
		return []string{path}
	}
	return []string{SavepointManifest(path), path}
}
