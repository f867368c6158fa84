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
	cfg     *Config
	dir     string
	bucket  string
	points  string // the file of failpoints
	jm      *process
	tms     []*process
	network string // of what the proxy listens at: see host

	mu struct {
		sync.Mutex
		rest, join string
		shards     []string // shard sockets that were known last
	}
}

// workerHang is how long a worker may stand still: some stops of workers are
// longer, some shorter.
const workerHang = 3 * time.Second

func newCluster(cfg *Config, dir, bucket string) *cluster {
	c := &cluster{cfg: cfg, dir: dir, points: filepath.Join(dir, "points"), bucket: bucket, network: network()}
	c.mu.rest, c.mu.join = "127.0.0.1:0", "127.0.0.1:0"
	c.jm = c.process("job manager", func() []string {
		rest, join := c.addresses()
		return append([]string{"jobmanager", "--data", filepath.Join(dir, "jm"), "--bucket", c.bucket,
			"--rest", strings.TrimPrefix(rest, "http://"), "--bind", join, "--log-level", "info"}, c.advertise(0)...)
	}, func(ready map[string]string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.rest, c.mu.join = ready["rest"], ready["join"]
		if _, port, err := net.SplitHostPort(c.mu.join); err == nil {
			c.mu.join = net.JoinHostPort("127.0.0.1", port) // not where it is advertised
		}
	})
	for i := range cfg.TaskManagers {
		c.tms = append(c.tms, c.process(fmt.Sprintf("task manager %d", i+1), func() []string {
			_, join := c.addresses()
			return append([]string{"taskmanager", "--data", filepath.Join(dir, fmt.Sprintf("tm%d", i+1)), "--join", join,
				"--kinesis", "127.0.0.1:0", "--slots", strconv.Itoa(cfg.Slots), "--worker-hang", workerHang.String(), "--log-level", "info"}, c.advertise(i+1)...)
		}, func(map[string]string) {}))
	}
	return c
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

func (c *cluster) addresses() (rest, join string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.rest, c.mu.join
}

func (c *cluster) rest() string {
	rest, _ := c.addresses()
	return rest
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

// nodes are the processes as the proxy sees them.
func (c *cluster) nodes() []*node {
	var all []*node
	for i, p := range c.all() {
		all = append(all, &node{name: p.name, host: c.host(i), pids: func() []int {
			if pid := p.pid(); pid != 0 {
				return append(p.workers(), pid)
			}
			return nil
		}})
	}
	return all
}

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
