//go:build linux

package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// cluster is a job manager and some task managers, processes of their own that
// are started again on the same folders whenever they end.
type cluster struct {
	cfg    *Config
	dir    string
	bucket string
	points string   // the file of failpoints
	jm     *process // that leads
	tms    []*process
	// seats are the addresses that a job manager can be joined at: one stands at
	// one of them, its successor at the other.
	seats   [2]string
	network string // of what the proxy listens at: see host

	mu struct {
		sync.Mutex
		rest   string   // of the job manager that leads
		shards []string // shard sockets that were known last
		// managers are the processes of job managers: the one that leads, and one
		// that was replaced and may still be there.
		managers []*process
	}
}

// workerHang is how long a worker may stand still: some stops of workers are
// longer, some shorter.
const workerHang = 3 * time.Second

func newCluster(cfg *Config, dir, bucket string) (*cluster, error) {
	c := &cluster{cfg: cfg, dir: dir, points: filepath.Join(dir, "points"), bucket: bucket, network: network()}
	for i := range c.seats {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		c.seats[i] = l.Addr().String()
		l.Close()
	}
	c.jm = c.manager(0)
	for i := range cfg.TaskManagers {
		c.tms = append(c.tms, c.process(fmt.Sprintf("task manager %d", i+1), func() []string {
			return append([]string{"taskmanager", "--data", filepath.Join(dir, fmt.Sprintf("tm%d", i+1)), "--join", c.seats[0] + "," + c.seats[1],
				"--kinesis", "127.0.0.1:0", "--slots", strconv.Itoa(cfg.Slots), "--worker-hang", workerHang.String(), "--log-level", "info"}, c.advertise(i+1)...)
		}, func(map[string]string) {}))
	}
	return c, nil
}

// manager makes a job manager at a seat, which leads once it is ready.
func (c *cluster) manager(seat int) *process {
	rest := "127.0.0.1:0"
	p := c.process("job manager", func() []string {
		return append([]string{"jobmanager", "--data", filepath.Join(c.dir, fmt.Sprintf("jm%d", seat+1)), "--bucket", c.bucket,
			"--rest", rest, "--bind", c.seats[seat], "--log-level", "info"}, c.advertise(0)...)
	}, func(ready map[string]string) {
		rest = strings.TrimPrefix(ready["rest"], "http://")
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.rest = ready["rest"]
	})
	p.seat = seat
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.managers = append(c.mu.managers, p)
	return p
}

func (c *cluster) process(name string, args func() []string, ready func(map[string]string)) *process {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "MILLRACE_") })
	env = append(env, "MILLRACE_FAILPOINTS=@"+c.points)
	for name, value := range credentials {
		env = append(env, name+"="+value)
	}
	env = append(env, c.cfg.Env...)
	return &process{name: name, bin: c.cfg.Binaries.Millrace, args: args, env: env, dir: c.dir, patience: c.cfg.Patience, out: &tail{}, onReady: ready}
}

func (c *cluster) rest() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.rest
}

// clusters counts those of this process.
var clusters atomic.Uint32

// network is a part of the loopback network that no other run on this machine has
// now: four for each process id, the last 13 bits of which tell it from others.
func network() string {
	n := uint32(os.Getpid())<<2 | clusters.Add(1)&3
	return fmt.Sprintf("127.%d.%d.", 64+n>>8&127, n&255)
}

// host is the loopback address that process i is reached at through the proxy.
func (c *cluster) host(i int) string { return fmt.Sprintf("%s%d", c.network, i+1) }

func (c *cluster) advertise(i int) []string {
	if !c.cfg.Proxy {
		return nil
	}
	return []string{"--advertise", c.host(i)}
}

// nodes are the processes as the proxy sees them; all job managers are one.
func (c *cluster) nodes() []*node {
	pids := func(all ...*process) (pids []int) {
		for _, p := range all {
			if pid := p.pid(); pid != 0 {
				pids = append(append(pids, p.workers()...), pid)
			}
		}
		return pids
	}
	all := []*node{{name: c.jm.name, host: c.host(0), pids: func() []int {
		c.mu.Lock()
		managers := slices.Clone(c.mu.managers)
		c.mu.Unlock()
		return pids(managers...)
	}}}
	for i, p := range c.tms {
		all = append(all, &node{name: p.name, host: c.host(i + 1), pids: func() []int { return pids(p) }})
	}
	return all
}

// all are the processes that the run keeps running.
func (c *cluster) all() []*process { return append([]*process{c.jm}, c.tms...) }

// shardSockets are the shard sockets of the task managers that are attached, or
// those known last.
func (c *cluster) shardSockets(ctx context.Context) []string {
	var all struct {
		TaskManagers []struct {
			Shard string `json:"shardAddress"`
		} `json:"taskmanagers"`
	}
	err := get(ctx, c.rest(), "/taskmanagers", &all)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && len(all.TaskManagers) > 0 {
		c.mu.shards = nil
		for _, tm := range all.TaskManagers {
			c.mu.shards = append(c.mu.shards, tm.Shard)
		}
	}
	return slices.Clone(c.mu.shards)
}

// command runs millrace to its end.
func (c *cluster) command(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.cfg.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.cfg.Binaries.Millrace, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "MILLRACE_") })
	cmd.Dir = c.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("millrace %s: %w: %s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// job reads the job's details.
func (c *cluster) job(ctx context.Context, id string) (d jobDetails, err error) {
	err = get(ctx, c.rest(), "/jobs/"+id, &d)
	return d, err
}

// alive are the jobs that have not ended.
func (c *cluster) alive(ctx context.Context) ([]string, error) {
	var all struct {
		Jobs []struct {
			ID    string `json:"jid"`
			State string `json:"state"`
		} `json:"jobs"`
	}
	if err := get(ctx, c.rest(), "/jobs/overview", &all); err != nil {
		return nil, err
	}
	var ids []string
	for _, j := range all.Jobs {
		if !(jobDetails{State: j.State}).ended() {
			ids = append(ids, j.ID)
		}
	}
	return ids, nil
}

// terminalSavepoint is the one that a job has ended with.
func (c *cluster) terminalSavepoint(ctx context.Context, job string) (string, error) {
	var all struct {
		Savepoints []struct {
			Job      string `json:"job-id"`
			Path     string `json:"path"`
			Terminal bool   `json:"terminal"`
		} `json:"savepoints"`
	}
	if err := get(ctx, c.rest(), "/savepoints", &all); err != nil {
		return "", err
	}
	for _, s := range all.Savepoints {
		if s.Job == job && s.Terminal {
			return s.Path, nil
		}
	}
	return "", fmt.Errorf("job %s has ended without a savepoint", job)
}

// awaitTaskManagers waits until all are attached.
func (c *cluster) awaitTaskManagers(ctx context.Context) error {
	return eventually(ctx, c.cfg.Patience, "all task managers are attached", func() (bool, string) {
		var all struct {
			TaskManagers []struct{} `json:"taskmanagers"`
		}
		err := get(ctx, c.rest(), "/taskmanagers", &all)
		return err == nil && len(all.TaskManagers) == len(c.tms), fmt.Sprintf("%d, %v", len(all.TaskManagers), err)
	})
}

// arm writes the file of failpoints.
func (c *cluster) arm(spec string) error {
	_ = os.Remove(c.points + ".fired")
	temporary := c.points + ".new"
	if err := os.WriteFile(temporary, []byte(spec), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, c.points)
}

// disarm removes it and says whether, and when, a point has killed or stopped a
// process.
func (c *cluster) disarm() (at time.Time, fired bool) {
	_ = os.Remove(c.points)
	var s syscall.Stat_t
	if err := syscall.Stat(c.points+".fired", &s); err != nil {
		return at, false
	}
	return time.Unix(s.Ctim.Unix()), true // when it was renamed
}

func (c *cluster) fired() bool {
	_, err := os.Stat(c.points + ".fired")
	return err == nil
}

// eventually asks again and again until done.
func eventually(ctx context.Context, patience time.Duration, what string, done func() (ok bool, last string)) error {
	deadline := time.Now().Add(patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		ok, last := done()
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("liveness: %s: not after %v; last: %s", what, patience, last)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %s", what, last), context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
