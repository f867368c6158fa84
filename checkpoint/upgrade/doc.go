// Package upgrade judges whether a new version of a job can go on with the state
// of an old one, from the two job graphs and the manifest alone: operator by
// operator, state by state, field by field. No binary runs for it and no state
// is read.
//
// Check, upgrade, the submission of a job and the worker that restores all ask
// here, so that what one accepts none of the others refuses. Everything is a pure
// function and may be called from any goroutine.
package upgrade
