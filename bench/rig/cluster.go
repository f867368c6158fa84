package rig

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cluster is a `millrace up` of its own.
type Cluster struct {
	// REST and Kinesis are URLs.
	REST, Kinesis string
	// Ready is the time from its start until it said that it is ready.
	Ready time.Duration
	// Log is its stderr, to be read once it has stopped.
	Log bytes.Buffer

	cmd *exec.Cmd
}

// Start returns once the process has said that it is ready. level is that of
// its log; flags are further ones of `millrace up`.
func Start(millrace, folder, level string, flags ...string) (*Cluster, error) {
	c := &Cluster{cmd: exec.Command(millrace, append([]string{"up", "--data", filepath.Join(folder, "data"),
		"--rest", "127.0.0.1:0", "--kinesis", "127.0.0.1:0", "--log-level", level}, flags...)...)}
	c.cmd.Stderr = &c.Log
	// Should this program be killed, so are its children.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s up: %w", millrace, err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	c.Ready = time.Since(began)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("millrace up ended before it was ready: %s", c.Log.String()), c.Stop())
	}
	for field := range strings.FieldsSeq(line) {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "rest":
			c.REST = value
		case "kinesis":
			c.Kinesis = value
		}
	}
	if c.REST == "" || c.Kinesis == "" {
		return nil, errors.Join(fmt.Errorf("millrace up said %q, not where it is", line), c.Stop())
	}
	go io.Copy(io.Discard, stdout) // ends with the process
	return c, nil
}

// Stop ends the cluster and with it its workers.
func (c *Cluster) Stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	kill := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
	defer kill.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("millrace up: %w: %s", err, c.Log.String())
	}
	return nil
}

// PID is the process.
func (c *Cluster) PID() int { return c.cmd.Process.Pid }

// Resident is the process's VmRSS in bytes.
func (c *Cluster) Resident() (uint64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kB << 10, err
		}
	}
	return 0, errors.New("no VmRSS in /proc/PID/status")
}

// CPUTime is the CPU time that a process has used, in user and kernel.
func CPUTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; user and system time are the
	// 12th and 13th fields after it, in hundredths of a second.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum, nil
}

// Pause waits, unless ctx ends.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
