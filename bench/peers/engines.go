package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/bench/nexmark"
)

// figures are what one run came to.
type figures struct {
	Version     string  `json:"version"`
	Events      int64   `json:"events"`
	Seconds     float64 `json:"seconds"`
	CPU         float64 `json:"cpu"`
	Checkpoints int64   `json:"checkpoints"`
	Memory      int64   `json:"memory"`
	Sums        string  `json:"sums"`
	Error       string  `json:"error,omitempty"`
}

// perCore is events per second of CPU time.
func (f figures) perCore() float64 { return float64(f.Events) / f.CPU }

// opened are the packages of the JDK that Flink and Hazelcast look into.
var opened = []string{
	"java.base/java.lang", "java.base/java.lang.reflect", "java.base/java.io", "java.base/java.net", "java.base/java.nio",
	"java.base/java.text", "java.base/java.time", "java.base/java.util", "java.base/java.util.concurrent",
	"java.base/java.util.concurrent.atomic", "java.base/sun.nio.ch", "java.management/sun.management",
	"jdk.management/com.sun.management.internal",
}

// buildPeers has Maven build the Java program and bring what it needs.
func buildPeers(ctx context.Context, cfg config) error {
	cmd := exec.CommandContext(ctx, "mvn", "-q", "-B", "-ntp", "-DskipTests", "-f", filepath.Join(cfg.project, "pom.xml"), "package")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("maven: %w\n%s", err, out)
	}
	return nil
}

// jvm is a process of the Java program.
type jvm struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Scanner
	log     bytes.Buffer
	folder  string
}

// startJVM starts one for an engine, on the cores that all have.
func startJVM(ctx context.Context, cfg config, engine string) (*jvm, error) {
	folder, err := os.MkdirTemp("", "bench-peers-")
	if err != nil {
		return nil, err
	}
	target := filepath.Join(cfg.project, "target")
	args := []string{
		"-c", cfg.cores, "java", "-Xms" + cfg.heap, "-Xmx" + cfg.heap, "-XX:+UseG1GC", "-Duser.timezone=UTC", "-Djava.io.tmpdir=" + folder,
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
		"--add-modules", "java.se", "--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED",
	}
	for _, p := range opened {
		args = append(args, "--add-opens", p+"=ALL-UNNAMED")
	}
	args = append(args, "-cp", filepath.Join(target, "peers-1.jar")+":"+filepath.Join(target, "lib", "*"), "org.millrace.peers.Peers", engine)
	j := &jvm{cmd: exec.CommandContext(ctx, "taskset", args...), folder: folder}
	j.cmd.Stderr = &j.log
	if cfg.verbose {
		j.cmd.Stderr = io.MultiWriter(&j.log, os.Stderr)
	}
	// Should this program be killed, so is the JVM.
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := j.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := j.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	j.in, j.answers = in, bufio.NewScanner(out)
	if err := j.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return j, nil
}

// run has it do a request. A run that fails says so in its figures; an error is
// the end of the process.
func (j *jvm) run(request string) (figures, error) {
	if _, err := fmt.Fprintln(j.in, request+" folder="+j.folder); err != nil {
		return figures{}, j.gone(err)
	}
	if !j.answers.Scan() {
		return figures{}, j.gone(errors.Join(j.answers.Err(), io.ErrUnexpectedEOF))
	}
	var f figures
	if err := json.Unmarshal(j.answers.Bytes(), &f); err != nil {
		return figures{}, fmt.Errorf("the JVM answered %q: %w", j.answers.Text(), err)
	}
	return f, nil
}

func (j *jvm) gone(err error) error {
	lines := strings.Split(strings.TrimSpace(j.log.String()), "\n")
	return fmt.Errorf("the JVM ended: %w: %s", err, strings.Join(lines[max(0, len(lines)-5):], " / "))
}

// stop ends it.
func (j *jvm) stop() {
	j.in.Close()
	_ = j.cmd.Wait() // that a run of its had failed is known already
	os.RemoveAll(j.folder)
}

// runMillrace has bench nexmark do a run.
func runMillrace(ctx context.Context, cfg config, c *contestant, r run) (figures, error) {
	query, slide, _ := strings.Cut(r.query, "-")
	args := []string{
		"-c", cfg.cores, cfg.millrace, "bench", "nexmark", "--query", query, "--events", fmt.Sprint(r.events), "--seed", fmt.Sprint(cfg.seed),
		"--rate", fmt.Sprint(rate(cfg, r.query)), "--parallelism", fmt.Sprint(cfg.parallelism), "--checkpoint-interval", "1s",
		"--state", c.state, "-o", "json",
	}
	if slide != "" {
		args = append(args, "--slide", slide)
	}
	if r.sums {
		args = append(args, "--hash")
	}
	cmd := exec.CommandContext(ctx, "taskset", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends its cluster
	cmd.WaitDelay = 20 * time.Second
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return figures{}, context.Cause(ctx)
	}
	var results []nexmark.Result
	if err != nil {
		return figures{Error: fmt.Sprintf("%v: %s", err, strings.TrimSpace(log.String()))}, nil
	}
	if err := json.Unmarshal(out, &results); err != nil || len(results) != 1 {
		return figures{}, fmt.Errorf("bench nexmark printed %.200q: %w", out, err)
	}
	x := results[0]
	if x.Invalid != "" && strings.Contains(x.Invalid, "restart") {
		return figures{Error: x.Invalid}, nil
	}
	_, sums, _ := strings.Cut(x.Hash, " ")
	return figures{
		Version: "", Events: x.Events, Seconds: x.Seconds, CPU: x.CPUSeconds, Checkpoints: x.Checkpoints.Completed,
		Memory: int64(x.PeakMemory), Sums: sums,
	}, nil
}
