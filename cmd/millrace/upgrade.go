package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// checked is the answer of a check.
type checked struct {
	Compatible bool   `json:"compatible"`
	Name       string `json:"name"`
	Against    string `json:"against"`
	Refused    *struct {
		Trace string `json:"stack-trace"`
	} `json:"refused"`
	Operators []struct {
		UID     string `json:"uid"`
		Verdict string `json:"verdict"`
		Reason  string `json:"reason"`
		States  []struct {
			Name    string `json:"name"`
			Kind    string `json:"kind"`
			Verdict string `json:"verdict"`
			Changes []struct {
				Text string `json:"text"`
			} `json:"changes"`
		} `json:"states"`
	} `json:"operators"`
}

// check asks for a verdict on a binary.
func (r *rest) check(ctx context.Context, jar string, in map[string]any) (*checked, []byte, error) {
	v := &checked{}
	body, err := r.post(ctx, "/jars/"+url.PathEscape(jar)+"/check", in, v)
	return v, body, err
}

// print shows a verdict, a line for each state.
func (v *checked) print(c *console) {
	var rows [][]string
	for _, o := range v.Operators {
		if len(o.States) == 0 || o.Reason != "" {
			rows = append(rows, []string{o.UID, "-", "-", o.Verdict, o.Reason})
		}
		for _, s := range o.States {
			var changes []string
			for _, x := range s.Changes {
				changes = append(changes, x.Text)
			}
			rows = append(rows, []string{o.UID, s.Name, s.Kind, s.Verdict, strings.Join(changes, "; ")})
		}
	}
	c.table("OPERATOR STATE KIND VERDICT CHANGES", rows)
}

// err is nil for a binary that fits.
func (v *checked) err() error {
	if v.Refused == nil {
		return nil
	}
	return fmt.Errorf("%s", v.Refused.Trace)
}

type checkCmd struct {
	restFlags
	output
	Against             string   `required:"" placeholder:"SAVEPOINT|JOB" help:"What has the state: a savepoint's path, or a job."`
	AllowUnmatchedState bool     `help:"State that no operator takes is no hindrance."`
	Parallelism         int      `short:"p" placeholder:"N" help:"Parallelism of operators that set none."`
	Binary              string   `arg:"" help:"The new job binary."`
	Args                []string `arg:"" optional:"" help:"The job's own arguments, behind --."`
}

func (*checkCmd) Help() string {
	return `Plans the binary as a start would and says what becomes of the state of every operator, field by field. Nothing
starts or stops. The exit code is 1 where a start would be refused.

Examples:
  millrace check ./flights-2 --against flights
  millrace check ./flights-2 --against savepoints/3f2c-1-17 -- --out-of-orderness 2h`
}

func (x *checkCmd) Run(ctx context.Context, c *console) error {
	api, err := x.open()
	if err != nil {
		return err
	}
	in := map[string]any{"programArgsList": append([]string{}, x.Args...), "allowNonRestoredState": x.AllowUnmatchedState, "parallelism": x.Parallelism}
	job, err := api.find(ctx, x.Against)
	switch {
	case err == nil:
		in["againstJob"] = job.ID
	case strings.Contains(x.Against, "/"):
		in["savepointPath"] = x.Against
	default:
		return err
	}
	jar, err := api.upload(ctx, c, x.Binary)
	if err != nil {
		return err
	}
	v, body, err := api.check(ctx, jar, in)
	if err != nil {
		return fmt.Errorf("check %s: %w", x.Binary, err)
	}
	if x.json() {
		c.raw(body)
	} else {
		v.print(c)
		if v.Compatible {
			fmt.Fprintf(c.out, "\n%s can go on with %s\n", x.Binary, v.Against)
		}
	}
	if err := v.err(); err != nil {
		return fmt.Errorf("%s cannot go on with %w", x.Binary, err)
	}
	return nil
}

type upgradeCmd struct {
	restFlags
	output
	Parallelism         int           `short:"p" placeholder:"N" help:"Start at this parallelism, not at the one in force: N for operators that set none."`
	AllowUnmatchedState bool          `help:"Leave state behind that no operator of the new version takes."`
	SavepointDir        string        `placeholder:"PATH" help:"Where in the bucket the savepoint goes."`
	NoArgs              bool          `help:"Start without arguments, not with those of the running job."`
	Timeout             time.Duration `default:"5m" help:"How long to wait for the savepoint, and for the start (${default})."`
	Job                 string        `arg:"" help:"Id, unique prefix of one, or unique name."`
	Binary              string        `arg:"" help:"The new job binary."`
	Args                []string      `arg:"" optional:"" help:"The job's own arguments, behind -- (those of the running job)."`
}

func (*upgradeCmd) Help() string {
	return `Checks first whether the new version can go on with the state of the job that runs; if not, nothing stops. Then the
job stops with a savepoint and the new version starts from it. No record is lost and none counts twice. Without -p each operator
keeps the parallelism that is in force, rescales included, unless the new version's code sets another than the old one's.

Examples:
  millrace upgrade flights ./flights-2
  millrace upgrade flights ./flights-2 -p 8 -- --out-of-orderness 2h`
}

// upgraded is what -o json prints.
type upgraded struct {
	From      string          `json:"from-job"`
	Savepoint string          `json:"savepoint"`
	Job       string          `json:"job"`
	Check     json.RawMessage `json:"check"`
}

func (u *upgradeCmd) Run(ctx context.Context, c *console) error {
	api, err := u.open()
	if err != nil {
		return err
	}
	job, err := api.find(ctx, u.Job)
	if err != nil {
		return err
	}
	if ended(job.State) {
		return fmt.Errorf("job %s is %s: start the new version from its savepoint (millrace savepoint list; millrace run --from <savepoint> %s)", job.ID, job.State, u.Binary)
	}
	say := func(format string, args ...any) {
		if u.json() {
			fmt.Fprintf(c.err, format+"\n", args...)
		} else {
			fmt.Fprintf(c.out, format+"\n", args...)
		}
	}
	formerArgs, in, err := u.request(ctx, api, job.ID)
	if err != nil {
		return err
	}
	jar, err := api.upload(ctx, c, u.Binary)
	if err != nil {
		return err
	}
	in["againstJob"] = job.ID
	v, verdict, err := api.check(ctx, jar, in)
	if err != nil {
		return fmt.Errorf("%s goes on as it was; plan of %s: %w", job.Name, u.Binary, err)
	}
	if err := v.err(); err != nil {
		return fmt.Errorf("%s goes on as it was: %s cannot go on with %w", job.Name, u.Binary, err)
	}
	say("checked: %s can go on with %s", u.Binary, v.Against)
	delete(in, "againstJob")
	savepoint, err := u.stop(ctx, c, api, job)
	if err != nil {
		return err
	}
	say("stopped: savepoint %s", savepoint)
	in["savepointPath"] = savepoint
	id, err := u.start(ctx, c, api, jar, in)
	if err != nil {
		return fmt.Errorf("%w\n  %s has stopped; everything that it had is in %s\n  to go back: millrace run --from %s <the former binary>%s",
			err, job.Name, savepoint, savepoint, trailing(formerArgs))
	}
	if u.json() {
		return c.json(upgraded{job.ID, savepoint, id, verdict})
	}
	return nil
}

// request is the body of the check and of the start, besides the arguments of the
// running job. What is not asked for is as that job has it; so the server takes
// over the parallelism in force.
func (u *upgradeCmd) request(ctx context.Context, api *rest, id string) ([]string, map[string]any, error) {
	var cfg struct {
		Arguments []string          `json:"arguments"`
		Settings  map[string]string `json:"submitted-settings"`
	}
	if _, err := api.get(ctx, "/jobs/"+id+"/config", &cfg); err != nil {
		return nil, nil, err
	}
	args := cfg.Arguments
	if len(u.Args) > 0 || u.NoArgs {
		args = append([]string{}, u.Args...)
	}
	in := map[string]any{"programArgsList": args, "allowNonRestoredState": u.AllowUnmatchedState}
	if u.Parallelism > 0 {
		in["parallelism"] = u.Parallelism
	}
	if len(cfg.Settings) > 0 {
		in["configuration"] = cfg.Settings
	}
	return cfg.Arguments, in, nil
}

// stop takes the savepoint and returns once the job has ended with it.
func (u *upgradeCmd) stop(ctx context.Context, c *console, api *rest, job jobSummary) (string, error) {
	body := map[string]any{"drain": false}
	if u.SavepointDir != "" {
		body["targetDirectory"] = u.SavepointDir
	}
	savepoint, _, err := api.takeSavepoint(ctx, c, job.ID, "/stop", body, u.Timeout)
	if err != nil {
		return "", fmt.Errorf("the new version was not started: %w\n  see whether %s has stopped: millrace describe %s", err, job.Name, job.ID)
	}
	// The new version goes on with the output of the old one only once that has
	// ended.
	err = poll(ctx, u.Timeout, "the end of "+job.ID, func() (bool, error) {
		var d jobDetail
		_, err := api.get(ctx, "/jobs/"+job.ID, &d)
		return ended(d.State), err
	})
	if err != nil {
		return "", fmt.Errorf("%w\n  the new version was not started; the savepoint is %s: millrace run --from %s %s", err, savepoint, savepoint, u.Binary)
	}
	return savepoint, nil
}

// start submits the new version and waits until it runs.
func (u *upgradeCmd) start(ctx context.Context, c *console, api *rest, jar string, in map[string]any) (string, error) {
	var out submission
	if _, err := api.post(ctx, "/jars/"+url.PathEscape(jar)+"/run", in, &out); err != nil {
		return "", fmt.Errorf("%s was not started: %w", u.Binary, err)
	}
	if !u.json() {
		out.print(c)
	}
	run := runCmd{restFlags: u.restFlags, output: u.output, Timeout: u.Timeout}
	return out.JobID, run.wait(ctx, c, api, out.JobID)
}

func trailing(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return " " + strings.Join(args, " ")
}
