// Package server is the host's end of the shard protocol (docs/protocols.md).
//
// Serve accepts connections until its context ends. A connection has one
// goroutine that reads frames, one that writes answers, and one for each
// request under way; requests do not wait for each other, and answers go out
// as they come. What one connection may have under way is bounded in number
// and bytes: above that its frames stay in the socket, and the client feels
// it. A frame that does not decode ends its connection; a request that fails
// is answered. When a connection ends, its reads end; its writes go on to
// where they would have ended, unanswered.
//
// The server decides nothing: the Host says which shards are here, and with
// which epoch, before every request.
package server
