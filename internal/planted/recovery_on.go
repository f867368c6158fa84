//go:build planted_recovery

package planted

// RecoveryCommitsNothing: what the restored checkpoint prepared is not committed.
const RecoveryCommitsNothing = true
