//go:build !planted_lineage

package planted

// ChildrenBesideParents: a job that is restored reads the children of a shard
// beside it.
const ChildrenBesideParents = false
