// Package codec derives binary codecs from Go types. A codec is compiled once
// per type, by reflection, to a list of typed steps at fixed offsets; encoding
// and decoding then use neither reflection nor allocation, save for what the
// decoded values themselves must own (strings, slices, maps, pointers).
//
// The encoding is documented byte by byte in docs/formats/codec.md. It is
// deterministic: equal values have equal bytes, maps included. Beside the bytes
// travels a schema, a canonical text of field names and types, by which a later
// version of the type reads what an earlier one wrote (DecoderFor).
//
// A Codec has no state: any number of goroutines may use one at the same time.
// Decoding corrupt bytes is an error, never a panic, and never takes memory out
// of proportion to its input. A type that cannot be encoded is refused by
// Derive, with the path to the part of it that cannot.
package codec
