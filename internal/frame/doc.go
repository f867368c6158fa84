// Package frame carries protobuf messages over a byte stream: a 4-byte
// big-endian length, then the message (docs/protocols.md §2). A worker and its
// task manager speak it over their control socket.
//
// A Reader belongs to one goroutine. A Writer may be shared: each Write is one
// whole frame. A frame longer than Max is refused before memory is taken for
// it; a stream that ends inside a frame is io.ErrUnexpectedEOF, one that ends
// between frames io.EOF. After any error the stream is of no more use. The
// package never closes what it reads from or writes to.
package frame
