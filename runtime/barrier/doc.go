// Package barrier decides when a task that has several input channels takes a
// checkpoint: once the same barrier has come in on every channel, and no
// record that follows a barrier has been taken in before.
//
// Aligner is a step machine. It starts no goroutine, reads no clock and does
// no I/O: the task tells it of barriers and of cancelled checkpoints, and does
// what the returned Step says, in this order: report Aborted, Unblock, Block,
// and if Aligned take the snapshot, hand the barrier on, and unblock.
//
// At most one checkpoint is aligned at a time. A newer barrier overtakes an
// older alignment, which is then aborted; barriers of checkpoints that were
// cancelled or overtaken are swallowed. The machine cannot fail: a sender that
// repeats or reorders barriers makes it swallow them, never take a checkpoint
// twice.
package barrier
