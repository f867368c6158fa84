// Package planted holds bugs that are not there: constants, each false unless
// its build tag is set, behind which a room does the wrong thing on purpose.
//
//	if planted.EpochNotChecked { ... }
//
// is removed by the compiler in every other build. `make chaos-controls` builds
// the system once with each and shows that the proof of package chaos fails: a
// check that has never failed proves nothing. A binary has at most one of them.
package planted
