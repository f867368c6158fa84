// Package launch is a job binary's side of docs/protocols.md §2: a task manager
// has started it, in plan mode to describe its graph or in worker mode to run
// subtasks, and speaks to it over an inherited socket.
//
// Mode tells what is asked of the binary, and Run does it. Run leaves stdin,
// stdout, stderr, the arguments and the environment to the job, save the
// variables of the launch itself, which it removes together with the
// descriptor's inheritance, so that what the job starts knows nothing of them.
// When the task manager goes away in worker mode, Run ends the process at once
// with ExitLinkLost, whatever it does: nothing may run without its parent.
package launch
