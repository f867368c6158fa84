//go:build planted_epoch

package planted

// EpochNotChecked: workers obey, and sinks take, what is of an older epoch.
const EpochNotChecked = true
