// Package runtime holds the rooms of what runs inside a worker; it has no code
// of its own, so nobody imports a package named runtime. From the record
// outwards:
//
//   - batch: records as columns, and their recycling.
//   - codec, keygroup: how a Go type becomes bytes, how a key finds its owner.
//   - state, timer, window: keyed state, and what is built on it.
//   - operator: the contract of an operator, and the plain operators.
//   - source, sink: the contracts of connectors.
//   - watermark, barrier: event time and checkpoints among several inputs.
//   - exchange: edges between tasks, local and remote.
//   - graph: the operator graph that a job's build makes, chained to vertices.
//   - task: one goroutine that runs one chain, with its mailbox.
//   - worker: the tasks of one job in one process, and the link to its master.
//   - launch: a job binary's side of the control socket.
package runtime
