//go:build !planted_commit

package planted

// CommitBeforeCompletion: sinks commit before the checkpoint is in the journal.
const CommitBeforeCompletion = false
