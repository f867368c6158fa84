package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cluster is `millrace up` as a child process, with all its files in a
// temporary folder.
type cluster struct {
	cli           string
	folder        string
	cmd           *exec.Cmd
	rest, kinesis string // URLs
	ended         chan struct{}
	err           error // why it ended, once ended is closed
}

// startCluster returns once the cluster is ready. Even with an error, what it
// returns must be stopped.
func startCluster(ctx context.Context, millrace, folder, rest, kinesis string) (*cluster, error) {
	c := &cluster{cli: millrace, folder: folder, ended: make(chan struct{})}
	c.cmd = exec.Command(millrace, "up", "--data", filepath.Join(folder, "data"), "--rest", rest, "--kinesis", kinesis)
	c.cmd.Env = environment()
	c.cmd.SysProcAttr = child()
	log, err := os.Create(c.log())
	if err != nil {
		close(c.ended)
		return c, err
	}
	defer log.Close() // the child has its own
	c.cmd.Stderr = log
	stdout, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		close(c.ended)
		return c, fmt.Errorf("start %s up: %w", millrace, err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(c.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				select {
				case ready <- rest:
				default: // only the first counts
				}
			}
		}
		c.err = c.cmd.Wait()
	}()
	select {
	case line := <-ready:
		return c, c.parse(line)
	case <-c.ended:
		return c, c.fault()
	case <-ctx.Done():
		return c, context.Cause(ctx)
	case <-time.After(20 * time.Second):
		return c, fmt.Errorf("millrace up was not ready within 20 s%s", c.lastWords())
	}
}

// parse reads what follows "ready".
func (c *cluster) parse(line string) error {
	for field := range strings.FieldsSeq(line) {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "rest":
			c.rest = value
		case "kinesis":
			c.kinesis = value
		}
	}
	if c.rest == "" || c.kinesis == "" {
		return fmt.Errorf("millrace up is ready, but does not say where: %q", line)
	}
	return nil
}

func (c *cluster) log() string { return filepath.Join(c.folder, "up.log") }

// fault says why the cluster ended, which it never should by itself.
func (c *cluster) fault() error {
	return fmt.Errorf("millrace up ended by itself (%v)%s", c.err, c.lastWords())
}

// lastWords is the end of the cluster's log.
func (c *cluster) lastWords() string {
	b, err := os.ReadFile(c.log())
	if err != nil || len(b) == 0 {
		return ""
	}
	return ":\n" + string(b[max(0, len(b)-2000):])
}

// stop ends the cluster and with it its workers, and returns when it is gone.
func (c *cluster) stop() error {
	select {
	case <-c.ended:
		return nil
	default:
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.ended:
		return nil
	case <-time.After(10 * time.Second):
	}
	err := c.cmd.Process.Kill()
	<-c.ended
	return errors.Join(errors.New("millrace up did not end within 10 s of SIGTERM and was killed"), err)
}

// command is a CLI command that is under way.
type command struct {
	ended  chan struct{}
	output string
	err    error
}

// start begins a CLI command; when ctx ends, so does it.
func (c *cluster) start(ctx context.Context, args ...string) *command {
	cmd := exec.CommandContext(ctx, c.cli, args...)
	cmd.SysProcAttr = child()
	cmd.Env = append(environment(), "MILLRACE_REST="+c.rest, "MILLRACE_KINESIS="+c.kinesis)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	k := &command{ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		if err := cmd.Run(); err != nil {
			k.err = fmt.Errorf("millrace %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
		}
		k.output = strings.TrimSpace(stdout.String())
	}()
	return k
}

// done says whether the command has ended, and how.
func (k *command) done() (bool, error) {
	select {
	case <-k.ended:
		return true, k.err
	default:
		return false, nil
	}
}

// fault is the error of a command that has ended with one.
func (k *command) fault() error {
	_, err := k.done()
	return err
}

// child sets a process apart from Ctrl-C, which is for the demo to act on, and
// ends it should the demo be killed.
func child() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// environment is this process's, without settings of Millrace: the demo shows
// the defaults.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MILLRACE_") {
			env = append(env, e)
		}
	}
	return env
}

// freeAddress returns an address, or that of a free port where it is in use.
func freeAddress(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return address, l.Close()
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil || !errors.Is(err, syscall.EADDRINUSE) {
		return "", err
	}
	return net.JoinHostPort(host, "0"), nil
}
