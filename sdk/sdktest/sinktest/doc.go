// Package sinktest is the conformance suite of transactional sinks: what every
// one must do, whatever it writes to. A connector's author calls Run from a test
// against the real target:
//
//	sinktest.Run(t, func(t *testing.T) sinktest.Target[Row] {
//		folder := t.TempDir()
//		return sinktest.Target[Row]{
//			Sink:    func() sdk.Sink[Row] { return files.Sink(folder, files.JSON[Row]()) },
//			Record:  func(n int) Row { return Row{N: n} },
//			Visible: func(ctx context.Context) ([]int, error) { … },
//		}
//	}, sinktest.Options{})
//
// Each seed is one history: attempts of one or several jobs write records, take
// checkpoints, which complete or fail, commit, crash before and after each of
// these steps, come back with another parallelism or from an older savepoint,
// fork, and repeat calls; writers and commits of attempts that are over come back
// as zombies. After every step that may change it, what a reader sees is compared
// with a model:
//
//  1. No record is visible before a checkpoint that holds it has completed and
//     its commit, or a recovery, has been called.
//  2. Once a commit or recovery has returned nil, all of its records are visible,
//     and stay.
//  3. No record is ever visible twice.
//  4. Nothing of an epoch below the highest recovered one becomes visible, save
//     what that recovery committed.
//  5. After the last recovery and commit nothing is left that nobody will see.
//
// Where a Target can fail, each operation of a checkpoint, its commit and a
// recovery fails once, the first, the second and so on until there are no more.
//
// A failure prints the seed and the history. The suite starts no goroutine and
// calls the sink from the test's; a sink must keep its own promises about
// concurrency by other tests.
package sinktest
