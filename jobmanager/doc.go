// Package jobmanager is the leading process of a cluster: it takes binaries
// and jobs in over REST, places them in the slots of the task managers that
// are attached, drives each job's master, owns the stream catalog, and keeps
// all of it in the journal of one bucket.
//
// Promises. What a client was told is in the journal before the answer is
// sent. A job manager that starts on a bucket takes over what the journal
// holds: jobs that had not ended go on from their latest completed
// checkpoint. Of two job managers on one bucket the older one's next write
// collides, and its Run returns journal.ErrLeadershipLost.
//
// Goroutines. New starts none. Run starts one driver for each job (the only
// caller of that job's master), the journal's writer, the servers of REST and
// of the control link, and waits for all of them. Methods of JobManager are
// safe for any goroutine.
//
// Failure. A job's failure stays with its job. A journal that cannot be
// written stops what needs it (submits, checkpoints, attempts) until the
// bucket answers again; tasks go on. Only lost leadership ends Run by itself.
//
// It never runs user code, not even to plan: a task manager does. It keeps no
// durable state that is not also in the bucket, and it never imports
// taskmanager.
package jobmanager
