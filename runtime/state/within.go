package state

// Within is the hash of what belongs to a stream's key, of which it is one of
// many: hash is the key's, sub that of which one. For NewTableHashed.
func Within(hash, sub uint64) uint64 { return within(hash, sub) }
