// Package local runs a job inside one process, for development, tests and a
// job binary that is started by hand. It is the same runtime and the same job
// master as in a cluster: checkpoints, restarts and commits happen as they
// would there. Only the seams are others: one worker with as many slots as the
// job needs lives in this process, the journal is a list in memory, and the
// bucket is one in memory unless the caller brings another.
//
// Run blocks until the job is over. Everything that it starts has ended when
// it returns, save code of the job that hangs: ten seconds after it was given up
// it is left behind, and Run's error says so. A failure of user code goes through the job's restart strategy
// and, when that gives up, comes out of Run as a *job.Error with operator,
// subtask and stack. A panic in user code does not bring the process down.
//
// Nothing here listens on a socket, writes to the file system by itself or
// catches signals: the caller ends ctx.
package local
