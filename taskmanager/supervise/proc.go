package supervise

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the one to which grandchildren fall when
// their parent dies, so that they can be found and reaped.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// owned lists the processes whose environment names this owner.
func owned(owner string) []int {
	mark := []byte(envOwner + "=" + owner)
	var pids []int
	eachProcess(func(pid int) {
		environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil || pid == os.Getpid() {
			return
		}
		for entry := range bytes.SplitSeq(environ, []byte{0}) {
			if rest, ok := bytes.CutPrefix(entry, mark); ok && (len(rest) == 0 || rest[0] == '/') {
				pids = append(pids, pid)
				return
			}
		}
	})
	return pids
}

func eachProcess(f func(pid int)) {
	d, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			f(pid)
		}
	}
}

// Resident is the resident set of a process in bytes, 0 when it is gone.
func Resident(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

type zombie struct{ pid, group int }

// zombies lists the dead children of parent that are not reaped.
func zombies(parent int) []zombie {
	var found []zombie
	eachProcess(func(pid int) {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return
		}
		// After the name in parentheses: state, parent, group.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) < 3 || fields[0] != "Z" || fields[1] != strconv.Itoa(parent) {
			return
		}
		if group, err := strconv.Atoi(fields[2]); err == nil {
			found = append(found, zombie{pid, group})
		}
	})
	return found
}
