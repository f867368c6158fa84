package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// The part of the page that is written stands between these.
const (
	partBegins = "<!-- make bench-peers writes from here -->\n"
	partEnds   = "<!-- to here -->\n"
)

// replacePart puts text in the place of what was there.
func replacePart(page, text string) (string, error) {
	before, rest, found := strings.Cut(page, partBegins)
	_, after, closed := strings.Cut(rest, partEnds)
	if !found || !closed {
		return "", errors.New("it has no part for these figures, between " + strings.TrimSpace(partBegins) + " and " + strings.TrimSpace(partEnds))
	}
	return before + partBegins + text + partEnds + after, nil
}

// table is what is known, in Markdown.
func (b *board) table() string {
	var out strings.Builder
	fmt.Fprintf(&out, "\nThousands of events per second of CPU time, medians of %d paired runs; `–` is not measured, `*` a run under 20 s, which is no result.\n\n", b.cfg.rounds)
	all := b.contestants()
	out.WriteString("| |")
	for _, c := range all {
		fmt.Fprintf(&out, " %s |", c.title)
	}
	out.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
	var notes []string
	for _, q := range b.cfg.queries {
		if text := b.difference(q); text != "" {
			fmt.Fprintf(&out, "| %s |%s\n", q, strings.Repeat(" differs |", len(all)))
			notes = append(notes, fmt.Sprintf("Results of %s differ, so there is no figure of speed: %s.", q, text))
			continue
		}
		fmt.Fprintf(&out, "| %s |", q)
		for _, c := range all {
			l := b.lane(q, c.name)
			fmt.Fprintf(&out, " %s |", cell(l))
			if l != nil && l.Failed != "" {
				notes = append(notes, fmt.Sprintf("%s of %s failed: %s.", q, c.title, oneLine(l.Failed)))
			}
		}
		out.WriteByte('\n')
	}
	out.WriteByte('\n')
	if g := b.generator; g.CPU > 0 {
		notes = append(notes, fmt.Sprintf("The JVM's generator alone takes %.0f ns an event on one thread; every figure of a peer holds it.", g.Seconds/float64(g.Events)*1e9))
	}
	for _, text := range append(b.means(), notes...) {
		fmt.Fprintf(&out, "%s\n\n", text)
	}
	fmt.Fprintf(&out, "%s\n", b.circumstances())
	return out.String()
}

// cell is a lane's figure.
func cell(l *lane) string {
	switch {
	case l == nil:
		return "–"
	case l.Failed != "":
		return "failed"
	case len(l.Runs) == 0:
		return "–"
	case l.short():
		return fmt.Sprintf("%.0f*", l.speed()/1000)
	}
	return fmt.Sprintf("%.0f", l.speed()/1000)
}

// means compare Millrace with each of the others where it has the same kind of
// state, over the queries for which both have a figure that counts.
func (b *board) means() (texts []string) {
	for _, c := range b.contestants() {
		us := "millrace"
		if c.state == "rocksdb" {
			us = "millrace-tiered"
		}
		if c.engine == "" {
			continue
		}
		sum, n, least, worst := 0.0, 0, math.Inf(1), ""
		for _, q := range b.cfg.queries {
			ours, theirs := b.lane(q, us), b.lane(q, c.name)
			if ours == nil || theirs == nil || ours.speed() == 0 || theirs.speed() == 0 || ours.short() || theirs.short() {
				continue
			}
			times := ours.speed() / theirs.speed()
			sum, n = sum+math.Log(times), n+1
			if times < least {
				least, worst = times, q
			}
		}
		if n > 0 {
			texts = append(texts, fmt.Sprintf("Millrace against %s: geometric mean %.1f× over %d queries, least %.1f× (%s).", c.title, math.Exp(sum/float64(n)), n, least, worst))
		}
	}
	return texts
}

// circumstances are what somebody needs to measure it again.
func (b *board) circumstances() string {
	versions := []string{runtime.Version()}
	if v := b.versions["flink"]; v != "" {
		versions = append(versions, "Apache Flink "+v)
	}
	if v := b.versions["jet"]; v != "" {
		versions = append(versions, "Hazelcast Jet "+v)
	}
	if out, err := exec.Command("java", "-version").CombinedOutput(); err == nil {
		line, _, _ := strings.Cut(string(out), "\n")
		versions = append(versions, strings.ReplaceAll(line, `"`, ""))
	}
	return fmt.Sprintf("Measured on %s with `make bench-peers PEERSFLAGS='%s'`: %s. Cores %s, parallelism %d, heap %s (G1), checkpoints each second; "+
		"warmed up for %v, runs of about %v; results compared over %d events.",
		b.began.UTC().Format(time.DateOnly), strings.Join(os.Args[1:], " "), strings.Join(versions, ", "), b.cfg.cores, b.cfg.parallelism,
		b.cfg.heap, b.cfg.warm, b.cfg.seconds, b.cfg.check)
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return text
}
