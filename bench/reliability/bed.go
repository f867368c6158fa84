package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/millrace/millrace/bench/rig"
)

// bed is a cluster with the job's binary in it.
type bed struct {
	// nodes are nil where the cluster is a millrace up.
	nodes  *rig.Nodes
	api    rig.REST
	jar    string
	folder string
}

// memory is enough for the state of the largest job.
var memory = []string{"--slots", "4", "--slot-memory", "4GiB"}

// together is a millrace up.
func together(ctx context.Context, cfg config, f func(*bed) error) error {
	return inFolder(func(folder string) (err error) {
		level := "warn"
		if cfg.verbose {
			level = "info"
		}
		c, err := rig.Start(cfg.millrace, folder, level, memory...)
		if err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, c.Stop())
			if err != nil || cfg.verbose {
				fmt.Fprintf(os.Stderr, "millrace up logged:\n%s", c.Log.String())
			}
		}()
		return (&bed{api: rig.REST{Base: c.REST}, folder: folder}).with(ctx, cfg, f)
	})
}

// apart is a job manager and a task manager that can be killed.
func apart(ctx context.Context, cfg config, f func(*bed) error) error {
	return inFolder(func(folder string) (err error) {
		n, err := rig.StartNodes(cfg.millrace, folder, memory...)
		if err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, n.Stop())
			if err != nil || cfg.verbose {
				fmt.Fprintf(os.Stderr, "the last that job manager and task manager logged:\n%s", n.Logged)
			}
		}()
		return (&bed{nodes: n, api: rig.REST{Base: n.REST}, folder: folder}).with(ctx, cfg, f)
	})
}

func inFolder(f func(folder string) error) error {
	folder, err := os.MkdirTemp("", "millrace-reliability-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	return f(folder)
}

// with uploads the job.
func (b *bed) with(ctx context.Context, cfg config, f func(*bed) error) error {
	contentType, body, err := rig.Form(cfg.job)
	if err != nil {
		return fmt.Errorf("%w (make bench-reliability builds it)", err)
	}
	if b.jar, err = b.api.Upload(ctx, contentType, body); err != nil {
		return err
	}
	return f(b)
}
