package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/checkpoint/inspect"
)

type savepointInspectCmd struct {
	savepointFlags
	Output    string  `short:"o" enum:"table,json,csv" default:"table" help:"table, json (of rows: one a line), or csv for rows."`
	State     string  `placeholder:"OPERATOR[/STATE]" help:"Print keyed state as rows."`
	Key       *string `placeholder:"KEY" help:"Only the rows of this key: a string as it is, other keys as JSON."`
	Limit     int     `default:"100" placeholder:"N" help:"Rows at most, 0 for all (${default})."`
	Savepoint string  `arg:"" help:"What stop or savepoint create printed, or the path of a checkpoint."`
}

func (*savepointInspectCmd) Help() string {
	return `The job's binary is not needed: a savepoint says how its state is encoded.

Examples:
  millrace savepoint inspect savepoints/3f2c-1-17
  millrace savepoint inspect savepoints/3f2c-1-17 --state delays --limit 20
  millrace savepoint inspect savepoints/3f2c-1-17 --state delays/last --key EWR -o json
  millrace savepoint inspect savepoints/3f2c-1-17 --bucket ./millrace-data/bucket --state delays -o csv --limit 0 > delays.csv`
}

func (s *savepointInspectCmd) Run(ctx context.Context, c *console) error {
	if s.State == "" && (s.Key != nil || s.Output == "csv") {
		return usageError{fmt.Errorf("--key and -o csv are for rows: say --state <operator>")}
	}
	if s.Limit < 0 {
		return usageError{fmt.Errorf("--limit %d is negative", s.Limit)}
	}
	from, err := s.source(ctx)
	if err != nil {
		return err
	}
	defer from.close()
	if s.State != "" {
		return s.rows(ctx, c, from)
	}
	sum, err := from.details(ctx, s.Savepoint)
	if err != nil {
		return err
	}
	if s.Output == "json" {
		return c.json(sum)
	}
	s.summary(c, sum)
	return nil
}

func (s *savepointInspectCmd) summary(c *console, sum *inspect.Summary) {
	what := "checkpoint"
	if sum.Savepoint {
		what = "savepoint"
	}
	if sum.Drained {
		what += ", drained"
	}
	fmt.Fprintf(c.out, "%s  %s %d\n", sum.Path, what, sum.Checkpoint)
	fmt.Fprintf(c.out, "job %s  %s, lineage %s, epoch %d\n", sum.Job, sum.JobName, sum.Lineage, sum.Epoch)
	fmt.Fprintf(c.out, "completed %s UTC, took %s; %s and %d entries of keyed state in %d objects\n",
		ago(sum.Completed), duration(sum.Completed-sum.Triggered), bytesOf(int64(sum.Bytes)), sum.Entries, sum.Objects)
	var operators, states, splits [][]string
	for _, o := range sum.Operators {
		watermark := "-"
		if o.Watermark != nil {
			watermark = ago(*o.Watermark)
		}
		operators = append(operators, []string{o.UID, o.Kind, fmt.Sprintf("%d/%d", len(o.Subtasks), o.MaxParallelism), bytesOf(int64(o.Bytes)),
			fmt.Sprint(o.Entries), fmt.Sprint(len(o.Splits)), fmt.Sprint(o.Handles), watermark})
		for _, st := range o.States {
			key := st.Key
			if st.At != "" {
				key += " / " + st.At
			}
			if st.Namespace != "" {
				key += " @ " + st.Namespace
			}
			states = append(states, []string{o.UID, st.Name, st.Kind, key, st.Value})
		}
		for _, p := range o.Splits {
			at, wm := p.Position, "-"
			if p.Watermark != nil {
				wm = ago(*p.Watermark)
			}
			if p.Finished {
				at += " (finished)"
			}
			splits = append(splits, []string{o.UID, p.ID, fmt.Sprint(p.Subtask), wm, at})
		}
	}
	fmt.Fprintln(c.out)
	c.table("OPERATOR KIND SUBTASKS/GROUPS BYTES ENTRIES SPLITS HANDLES WATERMARK(UTC)", operators)
	if len(states) > 0 {
		fmt.Fprintln(c.out)
		c.table("OPERATOR STATE KIND KEY VALUE", states)
	}
	if len(splits) > 0 {
		fmt.Fprintln(c.out)
		c.table("OPERATOR SPLIT SUBTASK WATERMARK(UTC) POSITION", splits)
	}
}

// rows prints keyed state as it comes.
func (s *savepointInspectCmd) rows(ctx context.Context, c *console, from savepointSource) error {
	var out rowPrinter
	switch s.Output {
	case "json":
		out = &jsonRows{json.NewEncoder(c.out)}
	case "csv":
		out = &csvRows{w: csv.NewWriter(c.out)}
	default:
		out = &tableRows{c: c}
	}
	shown := false
	more, err := from.rows(ctx, s.Savepoint, s.State, s.Key, s.Limit, func(r *inspect.Row) error {
		shown = true
		return out.row(r)
	})
	if err != nil && !shown {
		return err
	}
	if err := errors.Join(err, out.end()); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(c.err, "there are more rows than %d (--limit 0 for all)\n", s.Limit)
	}
	return nil
}

// rowPrinter prints rows. A row is valid during the call only.
type rowPrinter interface {
	row(*inspect.Row) error
	end() error
}

type jsonRows struct{ enc *json.Encoder }

func (p *jsonRows) row(r *inspect.Row) error { return p.enc.Encode(r) }
func (p *jsonRows) end() error               { return nil }

// plainText is JSON for people: a string without its quotes.
func plainText(v json.RawMessage) string {
	var s string
	if len(v) > 0 && v[0] == '"' && json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

type csvRows struct {
	w     *csv.Writer
	begun bool
}

func (p *csvRows) row(r *inspect.Row) error {
	if !p.begun {
		p.begun = true
		if err := p.w.Write([]string{"state", "key", "at", "namespace", "time", "value"}); err != nil {
			return err
		}
	}
	ns := ""
	if r.Namespace != nil {
		ns = strconv.FormatInt(*r.Namespace, 10)
	}
	return p.w.Write([]string{r.State, plainText(r.Key), plainText(r.At), ns, r.Time, plainText(r.Value)})
}

func (p *csvRows) end() error {
	p.w.Flush()
	return p.w.Error()
}

// tableRows aligns so many rows at a time, with the columns that the first of
// them need.
type tableRows struct {
	c       *console
	pending [][]string
	heading string
}

const rowsAtOnce = 1000

func (p *tableRows) row(r *inspect.Row) error {
	ns := r.Time
	if ns == "" && r.Namespace != nil {
		ns = strconv.FormatInt(*r.Namespace, 10)
	}
	clean := strings.NewReplacer("\t", " ", "\n", " ")
	p.pending = append(p.pending, []string{r.State, clean.Replace(plainText(r.Key)), clean.Replace(plainText(r.At)), ns, clean.Replace(plainText(r.Value))})
	if len(p.pending) == rowsAtOnce {
		return p.end()
	}
	return nil
}

func (p *tableRows) end() error {
	if len(p.pending) == 0 && p.heading != "" {
		return nil
	}
	columns := []string{"STATE", "KEY", "AT", "TIME", "VALUE"}
	var keep []int
	for i := range columns {
		used := i == 1 || i == 4
		for _, r := range p.pending {
			used = used || r[i] != ""
		}
		if used {
			keep = append(keep, i)
		}
	}
	pick := func(from []string) (to []string) {
		for _, i := range keep {
			cell := from[i]
			if cell == "" {
				cell = "-"
			}
			to = append(to, cell)
		}
		return to
	}
	for i := range p.pending {
		p.pending[i] = pick(p.pending[i])
	}
	p.heading = strings.Join(pick(columns), " ")
	p.c.table(p.heading, p.pending)
	p.pending = p.pending[:0]
	return nil
}

type savepointVerifyCmd struct {
	savepointFlags
	output
	Savepoint string `arg:"" help:"What stop or savepoint create printed, or the path of a checkpoint."`
}

func (*savepointVerifyCmd) Help() string {
	return `Reads every object that the savepoint names: sizes, checksums, order of keys, key groups, each entry by its schema, and
records in flight. A table says how far each could be checked: decoded to the last byte; framed, where types that only the job's
binary can read are in it (lengths; of protobuf messages that they are wire format); or by checksum alone. What is damaged is named by object and offset; then the exit code is 1.

Examples:
  millrace savepoint verify savepoints/3f2c-1-17
  millrace savepoint verify savepoints/3f2c-1-17 --bucket s3://bucket/prefix`
}

func (s *savepointVerifyCmd) Run(ctx context.Context, c *console) error {
	from, err := s.source(ctx)
	if err != nil {
		return err
	}
	defer from.close()
	p := c.progress()
	rep, err := from.verify(ctx, s.Savepoint, p)
	p.done()
	if err != nil {
		return err
	}
	if s.json() {
		if err := c.json(rep); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.out, "%s: %d objects, %d runs, %d entries, %s\n", rep.Path, rep.Objects, rep.Runs, rep.Entries, bytesOf(int64(rep.Bytes)))
		printChecked(c, rep.Checked)
		for _, x := range rep.Problems {
			at := "-"
			if x.Offset >= 0 {
				at = fmt.Sprint(x.Offset)
			}
			fmt.Fprintf(c.out, "  %s  object %s  offset %s\n    %s\n", x.Code, x.Object, at, x.Detail)
		}
		if len(rep.Problems) == 0 {
			fmt.Fprintln(c.out, "sound"+reservation(rep.Checked))
		}
	}
	if n := len(rep.Problems); n > 0 {
		return fmt.Errorf("%s is damaged in %d places: start from another savepoint or checkpoint", rep.Path, n)
	}
	return nil
}

// printChecked says how far everything was checked.
func printChecked(c *console, all []inspect.Checked) {
	var rows [][]string
	for _, x := range all {
		rows = append(rows, []string{x.Operator, x.What, x.Kind, fmt.Sprint(x.Count), string(x.How), strings.Join(x.Opaque, " ")})
	}
	if len(rows) > 0 {
		c.table("OPERATOR WHAT KIND COUNT CHECKED UNREAD", rows)
	}
}

// reservation is what soundness does not cover.
func reservation(all []inspect.Checked) string {
	for _, x := range all {
		if x.How != inspect.Decoded {
			return "; of what is framed or checked by checksum, only the bytes: they are those that were written, and the job's binary alone can read them"
		}
	}
	return ""
}
