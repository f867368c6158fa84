//go:build planted_offset

package planted

// OffsetSavedLate: a source's position in a checkpoint is that of its next poll.
const OffsetSavedLate = true
