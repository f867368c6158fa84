package supervise

import (
	"bytes"
	"os"
	"strconv"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter finds workers that are there and do nothing: stopped, or without
// a thread that runs. Each look asks with a ping, which the worker's control loop
// answers at once, whatever its tasks do.

// ask sends a ping, unless the one before has not left yet, and ends a worker
// that has not answered any for too long.
func (w *worker) ask(now time.Time) {
	started := w.started()
	if started == nil {
		return
	}
	select {
	case w.pings <- struct{}{}:
	default:
	}
	// Each answer counts one up; it begins with 1, for 0 would be an excuse.
	quiet := w.silence.Look(now, w.pongs.Load()+1)
	if quiet < w.s.config.Hang {
		return
	}
	pid := int(started.GetPid())
	w.stop(0, false, faultf(CodeWorkerHung, "worker %s of job %s has not answered for %v%s: it was killed",
		w.id, w.req.GetJobName(), quiet.Round(time.Millisecond), condition(pid)))
}

// ping is the next frame that asks.
func (w *worker) ping() *pb.WorkerFrame {
	w.pinged++
	return &pb.WorkerFrame{Body: &pb.WorkerFrame_Ping{Ping: &pb.WorkerPing{Number: w.pinged}}}
}

// condition says in which state the kernel has a process that does not answer.
func condition(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) == 0 {
		return ""
	}
	switch string(fields[0]) {
	case "T":
		return ", for somebody stopped it (SIGSTOP)"
	case "t":
		return ", for a debugger stopped it"
	case "D":
		return ", for it waits in the kernel, as on a disk or network file system that does not answer"
	case "R":
		return ", although it runs: its machine may have too little CPU"
	}
	return ""
}
