package launch

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"runtime/pprof"
	"sync"
	"syscall"
)

// EnvProfile names a folder for profiles of workers; none are taken without it.
const EnvProfile = "MILLRACE_PROFILE"

// profile is that of one worker process: its CPU time in NAME.cpu.pprof, and
// what it allocated and what is live in NAME.heap.pprof, NAME being the
// worker's id. They are written when the worker ends, however it is asked to;
// one that is killed leaves an empty file.
type profile struct {
	folder string
	mu     struct {
		sync.Mutex
		name string
		cpu  *os.File // nil where nothing is being taken
	}
}

// start begins; without a folder it does nothing.
func (p *profile) start(worker string) error {
	if p.folder == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := os.MkdirAll(p.folder, 0o755); err != nil {
		return fmt.Errorf("folder of profiles: %w", err)
	}
	p.mu.name = filepath.Join(p.folder, filepath.Base(worker))
	f, err := os.Create(p.mu.name + ".cpu.pprof")
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(fmt.Errorf("profile: %w", err), f.Close())
	}
	p.mu.cpu = f
	return nil
}

// stop writes what was taken. A second call does nothing.
func (p *profile) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.cpu == nil {
		return nil
	}
	pprof.StopCPUProfile()
	err := p.mu.cpu.Close()
	p.mu.cpu = nil
	f, failed := os.Create(p.mu.name + ".heap.pprof")
	if failed != nil {
		return errors.Join(err, failed)
	}
	goruntime.GC() // what is live now, not at the last collection
	return errors.Join(err, pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

// onTerm has the profile written before SIGTERM ends the process, as it does by
// default: so a worker is stopped whose job has ended. The goroutine lives as
// long as the process.
func (p *profile) onTerm() {
	if p.folder == "" {
		return
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		if err := p.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "millrace:", err)
		}
		signal.Reset(syscall.SIGTERM)
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
}
