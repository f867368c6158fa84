// Package manifest reads and writes manifests, the objects that say what a
// completed checkpoint consists of, in the format of docs/formats/manifest.md.
//
// Encode and Decode are pure. Read and Write use the bucket on the
// caller's goroutine; Write may leave an object behind when it fails, which is
// garbage until the journal names it. A manifest or run that is truncated or
// has a flipped bit is an error (CorruptError, snapshot.CorruptError) that
// names object and offset; nothing here repairs or guesses.
package manifest
