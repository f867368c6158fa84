// Package exchange carries records between the subtasks of a job.
//
// A channel is one (edge, sending subtask, receiving subtask). What is put
// into a channel comes out of it in the same order: batches of records, and
// among them events (watermark, idle, active, barrier). Nothing is lost or
// repeated while the attempt lives. When a connection between two workers
// breaks, the attempt is over: Network.Run returns an error that names both.
//
// Parts:
//
//	Type      erased face of a record type: it wires typed ends together, once
//	Network   one attempt's channels in one worker, and its connections
//	Listener  the worker's data listener; it outlives attempts
//	Writer    the sending end of an edge at one subtask: an operator.Stage
//	Gate      the receiving end of one input of one subtask, over its channels
//
// Wiring order, all of it before records flow:
//
//	n := NewNetwork(config)
//	t.NewGate(n, ...), t.NewWriter(n, ...)   for every subtask of the worker
//	go n.Run(ctx); <-n.Connected()           joins local ends, dials the workers
//
// A Gate and a Writer belong to their task's goroutine. Network and Listener
// may be used from any.
//
// Records of a pushed batch are copied by value into one open batch per
// receiver. An open batch leaves when it is full (batch.Rows, or about 32 KiB)
// and on Flush, which the task calls when it runs out of input. Events flush
// first. Between subtasks of one worker the batch itself is handed over and
// comes back empty through the same channel; to another worker it is encoded
// on the sender's goroutine and decoded on the receiver's.
//
// Every channel is bounded: by rows and bytes when local, by a credit in bytes
// when remote. A Writer that finds no room waits (WriterConfig.Park) until the
// receiver has taken something in or the network ends. A barrier never waits:
// it overdraws the bound by at most one batch, so that backpressure on one
// channel does not hold it back on the others. One full channel never holds
// back another one of the same connection.
//
// Nothing here is done per record but the copy (and the encoding, on remote
// channels): no lock, no allocation, no channel send.
package exchange
