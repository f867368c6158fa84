// Package proto holds the messages that Millrace's processes exchange and the
// messages inside its files, as protobuf sources in millrace/v1 with the code
// generated from them beside them (package pb). It holds no behaviour.
//
// Regenerate with `make generate`; the generated files are committed.
package proto
