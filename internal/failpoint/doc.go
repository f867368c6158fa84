// Package failpoint names the steps at which a process may be made to die, to
// stand still or to fail: before and after each step of a checkpoint, a commit, a
// restore and a rescale.
//
// Without the build tag failpoints, Hit is an empty function that the compiler
// removes: a product has no points. Points are on control paths only, never where
// a record passes. With the tag, the environment variable MILLRACE_FAILPOINTS
// says what happens where:
//
//	checkpoint.before-ack=kill@3        SIGKILL to itself at the third hit
//	commit.after=error                  Hit returns an error, each time
//	restore.before-load=delay:200ms     it takes longer
//	rescale.after-journal=stop@1        SIGSTOP to itself; who continues it is the tester's business
//	a=kill@2;b=delay:1s@1               several
//	@/path/of/a/file                    the same text from a file, looked at again when it changes
//
// A number after @ is the one hit, counted in this process, that is meant; without
// it, all are. A point of a file that kills or stops fires once for all
// processes: who fires it renames the file to <file>.fired first.
//
// Hit may be called from any goroutine. An unknown name, in a call or in the
// variable, panics: All is the closed list.
package failpoint
