package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This chapter is about memory: whether a worker keeps its budget, and whether
// the kernel took it for want of some.

// vmstat counts what the kernel does, on the whole machine.
const vmstat = "/proc/vmstat"

// groups says where control groups are mounted: those of version 1 that bound
// memory, and those of version 2.
type groups struct{ v1, v2 mount }

// mount shows at dir what lies beneath root of the whole hierarchy.
type mount struct{ root, dir string }

// findGroups reads a mountinfo file; what it does not find stays empty.
func findGroups(mountinfo string) groups {
	var g groups
	for line := range strings.Lines(mountinfo) {
		// id, parent, device, root, mount point, options, tags, "-", type,
		// source, options of the file system.
		before, after, ok := strings.Cut(line, " - ")
		at, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(at) < 5 || len(kind) < 3 {
			continue
		}
		m := mount{root: at[3], dir: at[4]}
		switch {
		case kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "memory"):
			g.v1 = m
		case kind[0] == "cgroup2":
			g.v2 = m
		}
	}
	return g
}

// path is where a group of the hierarchy lies, empty where it is not shown.
func (m mount) path(group string) string {
	rest, below := strings.CutPrefix(group, strings.TrimSuffix(m.root, "/"))
	if m.dir == "" || !below {
		return ""
	}
	return filepath.Join(m.dir, rest)
}

// group is the control group that bounds a process's memory.
type group struct {
	dir string // empty for none that can be read
	v1  bool
}

// of finds the memory group of a process that lives.
func (g groups) of(pid int) group {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return group{}
	}
	var found group
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			if dir := g.v1.path(parts[2]); dir != "" && exists(filepath.Join(dir, "memory.oom_control")) {
				return group{dir: dir, v1: true}
			}
		case parts[0] == "0":
			if dir := g.v2.path(parts[2]); dir != "" && exists(filepath.Join(dir, "memory.events")) {
				found = group{dir: dir}
			}
		}
	}
	return found
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// kills is how many of the group's processes the kernel has killed for memory.
func (g group) kills() uint64 {
	switch {
	case g.dir == "":
		return 0
	case g.v1:
		return counter(filepath.Join(g.dir, "memory.oom_control"), "oom_kill")
	}
	return counter(filepath.Join(g.dir, "memory.events"), "oom_kill")
}

// limit is the group's bound in bytes, 0 for none.
func (g group) limit() uint64 {
	name := "memory.max"
	if g.v1 {
		name = "memory.limit_in_bytes"
	}
	data, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || n >= 1<<60 { // "max", or what version 1 says for none
		return 0
	}
	return n
}

// counter reads one line of "name number".
func counter(file, name string) uint64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}

// memory is what was last seen of a worker's memory while it lived.
type memory struct {
	resident uint64
	over     int // looks in a row at which it was over its budget
	group    group
	kills    uint64 // of the group
	machine  uint64 // of the whole machine
	// The same at the look before: at the last one a worker that the kernel had
	// killed may not have been gone yet.
	killsBefore, machineBefore uint64
}

// after takes over what the look before saw.
func (m memory) after(before memory) memory {
	m.killsBefore, m.machineBefore = m.kills, m.machine
	if before.resident > 0 {
		m.machineBefore = before.machine
		if before.group == m.group {
			m.killsBefore = before.kills
		}
	}
	return m
}

func (s *Supervisor) look(pid int) memory {
	g := s.groups.of(pid)
	return memory{resident: Resident(pid), group: g, kills: g.kills(), machine: counter(vmstat, "oom_kill")}
}

// weigh looks at the worker's memory; two looks in a row over the budget end
// it.
func (w *worker) weigh() {
	started := w.started()
	if started == nil {
		return
	}
	slots := w.allowed(time.Now())
	budget, now := w.s.budget(slots), w.s.look(int(started.GetPid()))
	if now.resident == 0 {
		return // it has ended
	}
	w.mu.Lock()
	if now.resident > budget {
		now.over = w.mu.memory.over + 1
	}
	w.mu.memory = now.after(w.mu.memory)
	w.mu.Unlock()
	if now.over == 2 {
		w.stop(0, false, faultf(CodeMemoryExceeded, "worker %s of job %s uses %d MiB, more than the %d MiB of its %d slots: %s",
			w.id, w.req.GetJobName(), now.resident>>20, budget>>20, max(slots, 1), memoryRemedy))
	}
}

// shrinks is how long a worker that lost a slot may take to give memory back.
const shrinks = 10 * time.Second

// resize gives the worker another number of slots.
func (w *worker) resize(slots uint32) {
	w.mu.Lock()
	w.mu.former, w.mu.slots, w.mu.settled = max(w.mu.slots, slots), slots, time.Now().Add(shrinks)
	w.mu.Unlock()
	select {
	case w.resized <- struct{}{}:
	default:
	}
}

func (w *worker) slots() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.slots
}

// allowed is the number of slots whose memory the worker may use now.
func (w *worker) allowed(now time.Time) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Before(w.mu.settled) {
		return w.mu.former
	}
	return w.mu.slots
}

const memoryRemedy = "raise --slot-memory, keep state in tiers (-D state.backend.type=tiered), lower the parallelism per task manager, or keep less state"

// killed explains a SIGKILL that this task manager did not send. The kernel
// leaves no word to a process that it kills for memory, only counts it.
func (w *worker) killed() *Fault {
	w.mu.Lock()
	m := w.mu.memory
	w.mu.Unlock()
	who := fmt.Sprintf("worker %s of job %s was ended by SIGKILL, which this task manager did not send", w.id, w.req.GetJobName())
	used := ""
	if m.resident > 0 {
		used = fmt.Sprintf("; it used %d MiB when last seen, of the %d MiB of its %d slots", m.resident>>20, w.s.budget(w.slots())>>20, max(w.slots(), 1))
	}
	switch {
	case m.group.dir != "" && m.group.kills() > m.killsBefore:
		bound := "memory"
		if limit := m.group.limit(); limit > 0 {
			bound = fmt.Sprintf("%d MiB", limit>>20)
		}
		return faultf(CodeMemoryExceeded, "%s: the kernel killed for want of memory in its control group %s (limit %s)%s: raise that limit, or lower --slot-memory so that the slots of all workers fit in it; %s",
			who, m.group.dir, bound, used, memoryRemedy)
	case m.resident > 0 && counter(vmstat, "oom_kill") > m.machineBefore:
		return faultf(CodeMemoryExceeded, "%s: the kernel killed for want of memory on this machine at that time%s: give the machine more memory, or its task manager fewer slots or a lower --slot-memory; %s",
			who, used, memoryRemedy)
	}
	return faultf(CodeWorkerExited, "%s; the kernel counted no kill for want of memory: somebody, or a container's limit outside of this machine's view, ended it%s", who, used)
}
