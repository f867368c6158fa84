//go:build !planted_barrier

package planted

// BarrierNotAligned: a task goes on reading a channel whose barrier has come.
const BarrierNotAligned = false
