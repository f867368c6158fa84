// Package block is the encoding of records between processes and in the log:
// docs/formats/block.md, byte by byte.
//
// A Block is bytes that are never changed once handed over, except by Assign,
// which its one owner calls before anybody else sees it. Records that an
// Iterator yields point into the block. Nothing here allocates per record,
// starts a goroutine or keeps state between calls; a Builder belongs to one
// goroutine. Damaged bytes are an error of kind Corrupt, never a panic.
package block
