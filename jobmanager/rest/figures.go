package rest

import (
	"time"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/job"
)

// JobFigures are the metrics of a job under Flink's names. Those that are not
// known are left out.
func JobFigures(s job.Status, now time.Time) []Figure {
	var all []Figure
	add := func(id string, v float64) { all = append(all, Figure{id, v}) }
	add("numRestarts", float64(s.Restarts))
	add("fullRestarts", float64(s.Restarts))
	add("numRescales", float64(s.Rescalings))
	c := s.Checkpoints.Counts
	add("totalNumberOfCheckpoints", float64(c.Total))
	add("numberOfInProgressCheckpoints", float64(c.InProgress))
	add("numberOfCompletedCheckpoints", float64(c.Completed))
	add("numberOfFailedCheckpoints", float64(c.Failed))
	if l := latest(s.Checkpoints.LatestCompleted, s.Checkpoints.LatestSavepoint); l != nil {
		add("lastCompletedCheckpointId", float64(l.ID))
		add("lastCheckpointDuration", float64(l.Duration(now).Milliseconds()))
		add("lastCheckpointSize", float64(l.CheckpointedSize))
		add("lastCheckpointFullSize", float64(l.StateSize))
	}
	if r := s.Checkpoints.Restored; r != nil {
		add("lastCheckpointRestoreTimestamp", float64(r.At.UnixMilli()))
	}
	if at := s.Since[job.Running]; s.State == job.Running && !at.IsZero() {
		add("runningTime", float64(now.Sub(at).Milliseconds()))
		add("uptime", float64(now.Sub(at).Milliseconds()))
	}
	if s.LastRecovery > 0 {
		add("lastRecoveryMs", float64(s.LastRecovery.Milliseconds()))
	}
	if s.LastRecoveryFirstOutput > 0 {
		add("lastRecoveryFirstOutputMs", float64(s.LastRecoveryFirstOutput.Milliseconds()))
	}
	if s.SubmitToFirstOutput > 0 {
		add("submitToFirstOutputMs", float64(s.SubmitToFirstOutput.Milliseconds()))
	}
	return all
}

// latest is the one that ended last.
func latest(a, b *checkpoint.Stats) *checkpoint.Stats {
	if a == nil || b != nil && b.Ended.After(a.Ended) {
		return b
	}
	return a
}
