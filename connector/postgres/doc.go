// Package postgres is an exactly-once sink of PostgreSQL tables.
//
//	type Delays struct {
//		Origin string `db:"origin"`
//		Day    string `db:"day"`
//		Worst  int32  `db:"worst"`
//	}
//
//	results.To(postgres.Sink[Delays]("postgres://jobs@db/reports", "delays").Upsert("origin", "day"))
//
// Rows are sent by COPY into a staging table that nobody reads, and are durable
// there when a checkpoint counts on them. When it has completed, one database
// transaction moves them into their table and records the commit beside: whoever
// repeats it, under whichever job id, finds the record and changes nothing. So a
// table shows the rows of a checkpoint all at once.
//
// # In the database
//
// The sink keeps a schema, millrace unless Schema names another, with the tables
//
//	sinks                 the highest epoch that has recovered, by lineage and sink
//	commits               the last transaction committed, by lineage, sink, epoch and subtask
//	staged_<id>_<epoch>   rows of one attempt that are not committed: at most a few checkpoints' worth
//
// Its role may make a schema in the database, or finds it made and may make tables
// in it; it needs SELECT and INSERT on the target, and UPDATE for an upsert. It must connect
// to the server itself or through a pool of sessions, not of transactions.
// Keep the rows of commits for as long as savepoints of their lineage exist.
//
// # What goes wrong
//
// Types, NOT NULL and CHECK constraints are checked when a row is staged, the
// statement that will commit when the sink opens. What only the target knows,
// unique and foreign keys and triggers, is found at the commit. Either ends the job with the
// code output-refused and names table, constraint and row; nothing is passed
// over, and nothing is tried for ever. What was staged waits: correct the table and
// start the job from its last checkpoint.
//
// Lost connections, restarts and failovers of the server are waited for: up to 20 s in a commit,
// up to 40 s in staging, then by the job's restart strategy. A commit of which
// nobody knows how it ended is settled by its record. Staged rows do not expire: there
// is no time in which a job must recover; those of a job that is cancelled for good
// stay until a job goes on with its lineage, or somebody drops their table (docs/sinks.md). If the database itself goes back, to a
// backup or to a replica that had not received everything, a checkpoint that names what is
// gone is refused.
//
// A process of an older attempt that comes back can do nothing: its staging table is
// gone, it cannot make one, and its commits are refused. A recovery ends its sessions,
// which it knows by application_name, lest they hold locks.
//
// The methods of Rows are called by the runtime. Each writer has one goroutine
// and one session, and waits for both in Close; commits have one session more,
// so a sink takes as many as it has subtasks, and one.
package postgres
