//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/chaos/ledger"
	"github.com/millrace/millrace/internal/chaos/outlet"
	"github.com/millrace/millrace/stream/client"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// run is one run under way.
type run struct {
	cfg     Config
	rng     *rand.Rand
	cluster *cluster
	input   *input
	audit   *auditor
	store   *outlet.Store
	outlet  string // its address
	client  *client.Client
	proxy   *proxy      // nil without
	objects *objects    // nil without
	bucket  blob.Bucket // no fault touches it
	job     string
	binary  string // that the job runs
	tiered  bool   // where its state is
	width   int    // the job's parallelism
	report  *Report
	began   time.Time
	history []string
	start   func(*process) // and keep running
	kills   int            // processes that were ended with SIGKILL
	// brokenAt is when the fault under way did its work, where that is not when
	// it was ordered.
	brokenAt time.Time

	mu struct {
		sync.Mutex
		last  commit // the newest commit, without its rows
		count uint64
		// since are the commits since the last fault, without their rows.
		since []commit
		news  chan struct{} // closed at the next commit
	}
}

// Run makes one run. The report is there after a failure too.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg.defaults()
	folder, err := os.MkdirTemp(cfg.Folder, "chaos-")
	if err != nil {
		return nil, err
	}
	r := &run{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), report: newReport(), began: time.Now(),
		binary: cfg.Binaries.Job, width: cfg.Parallelism, tiered: cfg.Tiered,
	}
	r.mu.news = make(chan struct{})
	cfg.Log("seed %d %s", cfg.Seed, cfg.variant())
	err = r.run(ctx, folder)
	if err == nil || cfg.Folder == "" {
		defer os.RemoveAll(folder)
	}
	r.report.finish(r, err)
	if err != nil {
		return r.report, r.failure(folder, err)
	}
	return r.report, nil
}

// failure collects what was written last, in the folder too where that stays.
func (r *run) failure(folder string, err error) *Failure {
	f := &Failure{Seed: r.cfg.Seed, Err: err, History: r.history[max(0, len(r.history)-12):], Logs: map[string]string{}}
	logs, _ := filepath.Glob(filepath.Join(folder, "tm*", "logs", "*"))
	for _, file := range logs {
		if b, err := os.ReadFile(file); err == nil {
			f.Logs[file] = string(b[max(0, len(b)-16<<10):])
		}
	}
	for _, p := range r.processes() {
		f.Logs[p.name] = p.out.String()
		if r.cfg.Folder != "" {
			_ = os.WriteFile(filepath.Join(folder, p.name+".log"), []byte(f.Logs[p.name]), 0o644)
		}
	}
	if r.cfg.Folder != "" {
		_ = os.WriteFile(filepath.Join(folder, "failure.log"), []byte(f.Error()), 0o644)
		f.Folder = folder
	}
	return f
}

// run starts everything, makes faults, and ends everything.
func (r *run) run(ctx context.Context, folder string) error {
	// What serves the processes outlives them.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var servers sync.WaitGroup
	defer servers.Wait()
	defer stopServing()
	r.store = outlet.NewStore(r.visible)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.outlet = l.Addr().String()
	servers.Go(func() { r.store.Serve(serving, l) })
	bucket := "file://" + filepath.Join(folder, "bucket")
	sound := bucket
	if r.cfg.S3 {
		if bucket, sound, err = r.serveObjects(serving, &servers); err != nil {
			return err
		}
	}
	if r.bucket, err = blob.Open(ctx, sound); err != nil {
		return err
	}
	defer r.bucket.Close()
	if r.cluster, err = newCluster(&r.cfg, folder, bucket); err != nil {
		return err
	}
	if r.cfg.Proxy {
		const port = 9999
		r.proxy = newProxy(append(r.cluster.nodes(), &node{name: "outlet", host: r.cluster.host(99), fixed: map[int]string{port: r.outlet}}))
		r.outlet = net.JoinHostPort(r.cluster.host(99), strconv.Itoa(port))
		servers.Go(func() { r.proxy.run(serving) })
	}

	running, stop := context.WithCancelCause(ctx)
	g, running := errgroup.WithContext(running)
	r.start = func(p *process) { g.Go(func() error { return p.run(running) }) }
	r.start(r.cluster.jm)
	checker := ledger.NewChecker(r.script(), r.cfg.Shards)
	if r.cfg.Stream {
		checker.Loosen()
	}
	r.audit = newAuditor(checker)
	g.Go(func() error { r.audit.run(running); return nil })
	g.Go(func() error {
		select {
		case err := <-r.audit.failed:
			return err
		case <-running.Done():
			return nil
		}
	})
	var outcome error
	g.Go(func() error {
		outcome = r.drive(running, g)
		stop(errOver)
		return outcome
	})
	err = g.Wait()
	if r.client != nil {
		_ = r.client.Close()
	}
	select {
	case found := <-r.audit.failed: // what was found explains what else went wrong
		err = found
	default:
	}
	if broken := r.store.Broken(); broken != nil {
		err = broken
	}
	if errors.Is(err, errOver) {
		err = nil
	}
	return err
}

// processes are those that there are, none before the cluster is made.
func (r *run) processes() []*process {
	if r.cluster == nil {
		return nil
	}
	r.cluster.mu.Lock()
	defer r.cluster.mu.Unlock()
	return append(slices.Clone(r.cluster.mu.managers), r.cluster.tms...)
}

// serveObjects starts the S3 store and returns the bucket's URL for the processes,
// and that by which nothing fails.
func (r *run) serveObjects(ctx context.Context, servers *sync.WaitGroup) (broken, sound string, err error) {
	if r.objects, err = newObjects(r.cfg.Seed); err != nil {
		return "", "", err
	}
	for name, value := range credentials {
		if err := os.Setenv(name, value); err != nil {
			return "", "", err
		}
	}
	serve := func(h http.Handler) (url string) {
		l, listenErr := net.Listen("tcp", "127.0.0.1:0")
		if listenErr != nil {
			err = listenErr
			return ""
		}
		server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
		servers.Go(func() { _ = server.Serve(l) })
		context.AfterFunc(ctx, func() { _ = server.Close() })
		return "s3://" + objectsBucket + "/run?insecure=true&region=us-east-1&endpoint=" + l.Addr().String()
	}
	return serve(r.objects), serve(r.objects.backend), err
}

var errOver = errors.New("the run is over")

func (r *run) script() ledger.Script {
	return ledger.Script{Seed: r.cfg.Seed, Keys: r.cfg.Keys, Timely: r.cfg.Entries > 0}
}

// visible takes a commit of the store, under its lock.
func (r *run) visible(b outlet.Batch) {
	rows, err := rowsOf(b)
	if err != nil {
		r.audit.fail(err)
		return
	}
	c := commit{at: time.Now(), epoch: b.Epoch, checkpoint: b.Checkpoint, rows: rows}
	if !r.cfg.Stream {
		// It is the newest: the next one begins after its commit.
		if c.inFlight, err = r.inFlight(c.epoch, c.checkpoint); err != nil {
			r.audit.fail(err)
			return
		}
	}
	r.took(c)
}

// took passes a commit on to the auditor and to who waits for one.
func (r *run) took(c commit) {
	r.mu.Lock()
	r.mu.last = commit{at: c.at, epoch: c.epoch, checkpoint: c.checkpoint}
	r.mu.count++
	if len(r.mu.since) < 10_000 {
		r.mu.since = append(r.mu.since, r.mu.last)
	}
	close(r.mu.news)
	r.mu.news = make(chan struct{})
	r.mu.Unlock()
	select {
	case r.audit.commits <- c:
	default:
		r.audit.fail(errors.New("the auditor is too slow: 1024 commits wait"))
	}
}

func (r *run) commits() (n uint64, last commit, news <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.count, r.mu.last, r.mu.news
}

// drive is the story of a run.
func (r *run) drive(ctx context.Context, g *errgroup.Group) error {
	// Task managers are told where the job manager is, once it knows itself.
	if err := r.cluster.jm.awaitReady(ctx); err != nil {
		return err
	}
	for _, p := range r.cluster.tms {
		r.start(p)
	}
	for _, p := range r.cluster.tms {
		if err := p.awaitReady(ctx); err != nil {
			return err
		}
	}
	if err := r.cluster.awaitTaskManagers(ctx); err != nil {
		return err
	}
	if err := r.openStreams(ctx, g); err != nil {
		return err
	}
	if err := r.submit(ctx, ""); err != nil {
		return err
	}
	stopInput := make(chan struct{})
	produced := make(chan error, 1)
	go func() { produced <- r.input.produce(ctx, stopInput) }()
	ended := false
	endInput := func() error {
		if ended {
			return nil
		}
		ended = true
		if r.cfg.Entries == 0 || ctx.Err() != nil {
			close(stopInput)
		}
		return <-produced
	}
	defer func() { _ = endInput() }()
	if err := r.awaitCommits(ctx, 3); err != nil {
		return err
	}
	if err := r.preload(ctx); err != nil {
		return err
	}
	if err := r.faults(ctx); err != nil {
		return err
	}
	if err := endInput(); err != nil {
		return err
	}
	return r.end(ctx)
}

// openStreams creates the streams and begins to read what goes in.
func (r *run) openStreams(ctx context.Context, g *errgroup.Group) error {
	streams := []string{inputStream}
	if r.cfg.Stream {
		streams = append(streams, outputStream)
	}
	endpoint := ""
	err := eventually(ctx, r.cfg.Patience, "a Kinesis endpoint", func() (bool, string) {
		var all struct {
			TaskManagers []struct {
				Kinesis string `json:"kinesisAddress"`
			} `json:"taskmanagers"`
		}
		err := get(ctx, r.cluster.rest(), "/taskmanagers", &all)
		if err == nil && len(all.TaskManagers) > 0 {
			endpoint = "http://" + all.TaskManagers[0].Kinesis
		}
		return endpoint != "", fmt.Sprint(err)
	})
	if err != nil {
		return err
	}
	for _, s := range streams {
		if _, err := r.cluster.command(ctx, "stream", "create", s, "--shards", strconv.Itoa(r.cfg.Shards), "--kinesis", endpoint); err != nil {
			return err
		}
	}
	r.client = newStreamClient(r.cluster)
	if r.input, err = openInput(ctx, r.cluster, r.client, r.script(), r.cfg.Rate, r.cfg.Entries); err != nil {
		return err
	}
	g.Go(func() error { return (&follower{r.client, inputStream, r.cfg.Patience, r.tell}).run(ctx) })
	if r.cfg.Stream {
		// Each answer of a shard is taken as a commit.
		g.Go(func() error {
			return (&follower{r.client, outputStream, r.cfg.Patience, func(_ context.Context, sh *pb.Shard, data [][]byte) {
				if len(data) > 0 {
					r.visible(outlet.Batch{Parts: data})
				}
			}}).run(ctx)
		})
	}
	return nil
}

// tell passes on what was read of the input.
func (r *run) tell(ctx context.Context, sh *pb.Shard, data [][]byte) {
	t := told{shard: int(sh.GetIndex())}
	if len(data) == 0 {
		t.parents = parentsOf(sh)
	}
	for _, d := range data {
		rec, err := ledger.DecodeRecord(d)
		if err != nil {
			r.audit.fail(err)
			return
		}
		t.records = append(t.records, rec)
	}
	select {
	case r.audit.inputs <- t:
	case <-ctx.Done():
	}
}

// jobID finds the id in what run printed.
var jobID = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// submit starts the job, from a savepoint where one is given.
func (r *run) submit(ctx context.Context, savepoint string) error {
	args := []string{"run", "--rest", r.cluster.rest(), "-p", strconv.Itoa(r.width)}
	args = append(args, r.cfg.Run...)
	if r.tiered {
		args = append(args, "-D", "state.backend.type=tiered", "-D", "state.memory=1mb")
	}
	if savepoint != "" {
		args = append(args, "--from", savepoint)
	}
	args = append(args, r.binary, "--checkpoint", r.cfg.Checkpoint.String(), "--ballast", strconv.Itoa(r.cfg.Ballast))
	if !r.cfg.Stream {
		args = append(args, "--outlet", r.outlet)
	}
	args = append(args, r.cfg.Args...)
	out, err := r.cluster.command(ctx, args...)
	if err != nil {
		return err
	}
	if r.job = jobID.FindString(out); r.job == "" {
		return fmt.Errorf("no job id in %q", out)
	}
	r.cfg.Log("job %s", r.job)
	return nil
}

// awaitCommits waits until there are n more commits.
func (r *run) awaitCommits(ctx context.Context, n uint64) error {
	before, _, _ := r.commits()
	deadline := time.After(r.cfg.Patience)
	for {
		count, _, news := r.commits()
		if count >= before+n {
			return nil
		}
		if n := r.cfg.Entries; n > 0 && r.input.put.Load() >= n {
			return nil // nothing more comes in that could be committed
		}
		select {
		case <-news:
		case <-time.After(time.Second):
		case <-deadline:
			d, err := r.cluster.job(ctx, r.job)
			return fmt.Errorf("liveness: no commit for %v; job %v, %v; %s", r.cfg.Patience, d, err, r.troubles(ctx))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// troubles are the job's newest exceptions.
func (r *run) troubles(ctx context.Context) string {
	all, err := exceptions(ctx, r.cluster.rest(), r.job)
	s := fmt.Sprint("exceptions ", err)
	for i, x := range all {
		if i == 5 {
			break
		}
		s += fmt.Sprintf("\n    %s %s: %.300s", time.UnixMilli(x.At).UTC().Format("15:04:05.000"), x.Code, x.Detail)
	}
	return s
}

// preload waits until the ballast is in a checkpoint: it is there when commits
// come at their pace again.
func (r *run) preload(ctx context.Context) error {
	if r.cfg.Ballast == 0 {
		return nil
	}
	limit := time.Now().Add(20 * time.Minute)
	for time.Now().Before(limit) {
		var out struct {
			Latest struct {
				Completed *struct {
					State uint64 `json:"state_size"`
				} `json:"completed"`
			} `json:"latest"`
		}
		if err := get(ctx, r.cluster.rest(), "/jobs/"+r.job+"/checkpoints", &out); err == nil &&
			out.Latest.Completed != nil && out.Latest.Completed.State >= uint64(r.cfg.Ballast)*100 {
			return r.awaitCommits(ctx, 3)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.New("the ballast is not in a checkpoint after 20 minutes")
}

// end drains the job and takes stock. A drain takes what is in the shards that are
// being read: the children of those that were split just before must be among them.
func (r *run) end(ctx context.Context) error {
	put := r.input.put.Load()
	if err := eventually(ctx, r.cfg.Patience, "everything that was put is read and committed", func() (bool, string) {
		return r.audit.caughtUp(ctx, put)
	}); err != nil {
		return fmt.Errorf("%w; %s", err, r.troubles(ctx))
	}
	if _, err := r.cluster.command(ctx, "stop", "--drain", "--rest", r.cluster.rest(), r.job); err != nil {
		return fmt.Errorf("%w; %s", err, r.troubles(ctx))
	}
	if d, err := r.cluster.job(ctx, r.job); err != nil || d.State != "FINISHED" {
		return fmt.Errorf("after the drain job %s is %v, %v", r.job, d, err)
	}
	if err := eventually(ctx, r.cfg.Patience, "everything that was put is committed", func() (bool, string) {
		ok, n := r.audit.settled(ctx)
		return ok, fmt.Sprintf("%d entries wait", n)
	}); err != nil {
		return err
	}
	verdict := errors.New("the auditor gives no verdict")
	r.audit.ask(ctx, func(c *ledger.Checker) {
		if put := r.input.put.Load(); c.Told() < put {
			verdict = fmt.Errorf("acknowledged and lost: %d entries were acknowledged, the stream holds %d", put, c.Told())
			return
		}
		verdict = c.End()
		r.report.Ledger = c.Counts()
	})
	if verdict != nil {
		return verdict
	}
	if err := r.garbage(ctx); err != nil {
		return err
	}
	for _, p := range r.cluster.all() {
		for _, e := range p.exits() {
			r.report.Exits = append(r.report.Exits, e)
		}
	}
	return nil
}
