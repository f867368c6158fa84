package sdk

import "errors"

// batchFlag is a flag that every job has.
const batchFlag = "batch"

// Batch makes the run a batch run, as the flag --batch of every job does: a run
// over bounded input that shows final results only, and then ends.
//
// It is the same job on the same runtime, with checkpoints and restarts. What
// differs:
//   - Operators of update streams (KeyedUpdates, and Last and Best of a
//     KeyedStream) emit each row of their result once, at the end of their input,
//     as an Insert without an event time. Those rows are what the changes of the
//     streaming run add up to. So any sink takes them.
//   - Timers in processing time that are still set at the end of the input are
//     called then, once each; one that is set in such a call is not. Windows in
//     processing time that are open then end, as they do at the end of any run.
//   - A source that never ends is refused.
//
// A batch run that is stopped with a drain has shown results of what was read
// until then; what goes on from its savepoint begins those anew.
func (e *Env) Batch() { e.g.Config.Batch = true }

// InBatch says whether the run is a batch run: the place to choose a bounded
// source.
func (e *Env) InBatch() bool { return e.g.Config.Batch }

// declareBatch reads the flag --batch.
func (e *Env) declareBatch() {
	var v boolValue
	e.flags.set.Var(&v, batchFlag, "show final results only, of input that ends")
	for _, given := range e.flags.given(batchFlag, true) {
		if err := v.Set(given); err != nil {
			e.fail(&UsageError{errors.New("flag --batch: " + err.Error())})
			return
		}
	}
	e.g.Config.Batch = bool(v)
}

// checkBatch refuses sources that keep a batch run from its end.
func (e *Env) checkBatch() {
	if !e.g.Config.Batch {
		return
	}
	for _, n := range e.nodes {
		if n.Source && !n.Bounded {
			n.fail("it never ends, and a batch run shows its results at the end: give it a bounded source (Env.InBatch tells), or run the job without --batch")
		}
	}
}
