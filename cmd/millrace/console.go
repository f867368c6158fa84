package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// console is where a command writes.
type console struct {
	out, err io.Writer
}

// output is the flag of every command that prints facts.
type output struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"table, or json: the API's own answer."`
}

func (o output) json() bool { return o.Output == "json" }

// raw prints an answer of an API as it came.
func (c *console) raw(body []byte) {
	c.out.Write(body)
	if len(body) == 0 || body[len(body)-1] != '\n' {
		fmt.Fprintln(c.out)
	}
}

// json prints a value of ours.
func (c *console) json(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	c.raw(b)
	return nil
}

// table prints rows under a heading, in columns.
func (c *console) table(heading string, rows [][]string) {
	w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(heading, " ", "\t"))
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	w.Flush()
}

// progress shows one line that is rewritten in place, on terminals only and
// only once two seconds have passed.
type progress struct {
	c     *console
	since time.Time
	tty   bool
	shown bool
	last  string
}

func (c *console) progress() *progress {
	f, ok := c.err.(*os.File)
	tty := false
	if ok {
		info, err := f.Stat()
		tty = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return &progress{c: c, since: time.Now(), tty: tty}
}

// say shows where things stand.
func (p *progress) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if time.Since(p.since) < 2*time.Second || text == p.last {
		return
	}
	p.last = text
	if !p.tty {
		fmt.Fprintln(p.c.err, text)
		return
	}
	p.shown = true
	fmt.Fprintf(p.c.err, "\r\x1b[K%s", text)
}

// done clears the line.
func (p *progress) done() {
	if p.shown {
		fmt.Fprint(p.c.err, "\r\x1b[K")
	}
}

func ago(ms int64) string {
	if ms <= 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05")
}

func duration(ms int64) string {
	if ms < 0 {
		return "-"
	}
	d := time.Duration(ms) * time.Millisecond
	if d > time.Minute {
		d = d.Round(time.Second)
	}
	return d.String()
}

func bytesOf(n int64) string {
	const unit = 1024
	switch {
	case n < unit:
		return fmt.Sprintf("%d B", n)
	case n < unit*unit:
		return fmt.Sprintf("%.1f KiB", float64(n)/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%.1f MiB", float64(n)/unit/unit)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/unit/unit/unit)
}
