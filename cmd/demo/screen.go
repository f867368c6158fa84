package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// board is what the demo knows at a moment.
type board struct {
	job      jobStatus
	cp       checkpoints
	sent     int // records in the stream of flights
	total    int
	counted  int
	late     int
	results  int
	newest   []row
	recovery string
	elapsed  time.Duration
}

// line is the board in one line.
func (b board) line() string {
	s := fmt.Sprintf("%5.1f s  %-10s  sent %6d  counted %6d  late %4d  results %5d  checkpoints %3d  restarts %d",
		b.elapsed.Seconds(), b.state(), b.sent, b.counted, b.late, b.results, b.cp.Counts.Completed, b.job.Restarts)
	if len(b.newest) > 0 {
		s += "  up to " + b.newest[0].Day
	}
	return s
}

func (b board) state() string {
	if b.job.State == "" {
		return "-"
	}
	return b.job.State
}

// lines is the board as a table that fits into so many columns and rows.
func (b board) lines(width, height int) []string {
	out := []string{
		fmt.Sprintf("job flights: %s   %.1f s", b.state(), b.elapsed.Seconds()),
		fmt.Sprintf("flights  %s   sent %d of %d", bar(b.sent, b.total, 24), b.sent, b.total),
		fmt.Sprintf("counted  %s   %d in %d results, %d late", bar(b.counted+b.late, b.total, 24), b.counted, b.results, b.late),
		b.checkpoints(),
		"recovery: " + b.recovery,
		"",
		"delays, newest day first",
		fmt.Sprintf("%-6s  %-10s  %7s  %6s  %5s  %5s", "ORIGIN", "DAY", "FLIGHTS", "MEAN", "P95", "WORST"),
	}
	for _, r := range b.newest {
		out = append(out, fmt.Sprintf("%-6s  %-10s  %7d  %6s  %5d  %5d", r.Origin, r.Day, r.Flights, r.Mean, r.P95, r.Worst))
	}
	out = out[:min(len(out), max(1, height))]
	for i, l := range out {
		if r := []rune(l); len(r) > width {
			out[i] = string(r[:max(0, width)])
		}
	}
	return out
}

func (b board) checkpoints() string {
	s := fmt.Sprintf("checkpoints: %d", b.cp.Counts.Completed)
	if c := b.cp.Latest.Completed; c != nil {
		s += fmt.Sprintf(", the last took %d ms", c.TookMs)
	}
	return s + fmt.Sprintf("   restarts: %d", b.job.Restarts)
}

// bar draws n of total, so many characters wide.
func bar(n, total, width int) string {
	full := 0
	if total > 0 {
		full = min(width, max(0, n)*width/total)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}

// screen shows boards: on a terminal one that is drawn over and over in the
// same place, elsewhere a line a second. What is said stays above it.
type screen struct {
	out   io.Writer
	tty   *os.File // nil where out is no terminal
	drawn int      // lines of the board on the terminal
	last  time.Time
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok {
		if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			s.tty = f
		}
	}
	return s
}

// show brings the board up to date.
func (s *screen) show(b board, now time.Time) {
	if s.tty == nil {
		if now.Sub(s.last) >= time.Second {
			s.last = now
			fmt.Fprintln(s.out, b.line())
		}
		return
	}
	width, height := 80, 24
	if w, err := unix.IoctlGetWinsize(int(s.tty.Fd()), unix.TIOCGWINSZ); err == nil && w.Col > 0 && w.Row > 0 {
		width, height = int(w.Col), int(w.Row)
	}
	lines := b.lines(width-1, height-2)
	// Written at once, so that it does not flicker.
	fmt.Fprint(s.out, s.erase()+strings.Join(lines, "\n")+"\n")
	s.drawn = len(lines)
}

// erase is what takes the board off the terminal.
func (s *screen) erase() string {
	if s.drawn == 0 {
		return ""
	}
	n := s.drawn
	s.drawn = 0
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", n)
}

// say prints a line that stays.
func (s *screen) say(format string, args ...any) {
	fmt.Fprintf(s.out, s.erase()+format+"\n", args...)
}

// shout prints a line that cannot be missed.
func (s *screen) shout(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.tty != nil {
		text = "\x1b[1;31m" + text + "\x1b[0m"
	}
	s.say("%s", "\n"+text+"\n")
}
