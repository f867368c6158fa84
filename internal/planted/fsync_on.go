//go:build planted_fsync

package planted

// FsyncRemoved: a shard acknowledges what is not durable.
const FsyncRemoved = true
