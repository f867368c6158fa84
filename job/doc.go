// Package job is the job graph and the job master: what decides, for one job,
// when its tasks start, are checkpointed, restart and end.
//
// Master is a pure step machine. Step takes an event and the time and returns
// actions; it starts no goroutine, reads no clock, does no I/O and never
// blocks. A driver (the job manager, or package local in one process) owns the
// only goroutine that calls it, carries the actions out in their order, and
// hands back what came of them as events. Deadline says when the next Tick is
// due.
//
// # What the driver does with an action, and the event that answers it
//
//	RequestSlots   have N slots held for the job, all or none; what it held is
//	               given back first               → SlotsGranted, maybe much later
//	ResizeSlots    have N slots, without giving any back  → SlotsResized, maybe never
//	KeepSlots      give back all but some         → nothing
//	ReleaseSlots   give them back                 → nothing
//	StartWorker    start the job's worker on a task manager, in place of any
//	               other worker of the job there  → WorkerStarted or WorkerExited
//	ResizeWorker   change its memory              → nothing
//	StopWorker     end a worker                   → WorkerExited
//	SendWorker     pass a command to a worker, in order; one that is gone
//	               loses it                       → nothing (reports: WorkerReported)
//	Journal        append a record                → Journaled
//	WriteManifest  write a manifest object        → ManifestWritten
//	ReadManifest   read one                       → ManifestRead
//	ListObjects    list what is under a prefix    → ObjectsListed, or nothing
//	DeleteObjects  delete objects, some time      → nothing
//	Answer         answer a user's request        → nothing
//	Observe        log, trace or count it         → nothing
//
// Journal records are written in the order of their actions and answered in
// that order, each once. Journaled carries an error only if the record is
// certainly not in the journal and never will be; while the bucket cannot be
// reached the driver goes on trying, and the job goes on running without
// completing a checkpoint. A driver that loses leadership drops the master: it
// answers nothing and carries out no further action.
//
// An answer carries the token of its action. One that comes late, twice or for
// something that the master has given up is ignored, as is every report of
// another epoch or of a worker that is gone.
//
// # What the master promises
//
// The numbered invariants are at type Master. In short: an epoch is in the
// journal before anything of its attempt is sent; no task starts before every
// transactional sink has committed what the restored checkpoint holds; a
// checkpoint is complete only when the journal has it, and only then are
// workers told and sinks committed, in order, each until it is acknowledged; a
// job is FINISHED only after its last commit; terminal states are final.
package job
