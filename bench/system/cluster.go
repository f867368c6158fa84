package main

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

// cluster is a `millrace up` of its own.
type cluster struct {
	cmd           *exec.Cmd
	stderr        bytes.Buffer
	rest, kinesis string // URLs
	ready         time.Duration
}

// start returns once the process has said that it is ready. level is that of
// its log.
func start(millrace, folder, level string) (*cluster, error) {
	c := &cluster{cmd: exec.Command(millrace, "up", "--data", filepath.Join(folder, "data"), "--rest", "127.0.0.1:0", "--kinesis", "127.0.0.1:0", "--log-level", level)}
	c.cmd.Stderr = &c.stderr
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
	c.ready = time.Since(began)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("millrace up ended before it was ready: %s", c.stderr.String()), c.stop())
	}
	for field := range strings.FieldsSeq(line) {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "rest":
			c.rest = value
		case "kinesis":
			c.kinesis = value
		}
	}
	if c.rest == "" || c.kinesis == "" {
		return nil, errors.Join(fmt.Errorf("millrace up said %q, not where it is", line), c.stop())
	}
	go io.Copy(io.Discard, stdout) // ends with the process
	return c, nil
}

// stop ends the cluster and with it its workers.
func (c *cluster) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	kill := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
	defer kill.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("millrace up: %w: %s", err, c.stderr.String())
	}
	return nil
}

// resident is the process's VmRSS in bytes.
func (c *cluster) resident() (uint64, error) {
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

// cpuTime is the CPU time that a process has used, in user and kernel.
func cpuTime(pid int) (time.Duration, error) {
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

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
