package supervise

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/failpoint"
	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Config of a Supervisor. The zero value of a field is the default that its
// comment names.
type Config struct {
	// Data is the folder with binaries and logs beneath it; required.
	Data string
	// Owner names the task manager; processes that an earlier run with this
	// owner left behind are killed by Run. Required.
	Owner string
	// SlotMemory is the memory of one slot in bytes (1 GiB).
	SlotMemory uint64
	// DataHost is where workers open their data listeners (127.0.0.1).
	DataHost string
	// Advertise replaces that host in the addresses that other workers are
	// told, where it is set.
	Advertise string
	// ShardAddress is what workers are told of the shard socket.
	ShardAddress string
	// Handshake bounds the time until a binary that is planned says hello (2 s),
	// Plan all of plan mode, and each step of a worker's start (10 s), Kill the time between SIGTERM and SIGKILL when
	// Run ends (1 s).
	Handshake, Plan, Kill time.Duration
	// Watch is the time between two looks at a worker: at its memory, and whether
	// it answers (1 s). Hang is for how long it may not (10 s); a pause of this
	// process itself does not count.
	Watch, Hang time.Duration
	// KeepFolders is for how long the folder of a job stays that has no worker
	// here (10 min).
	KeepFolders time.Duration
	// Profile is a folder into which workers write profiles; none for "".
	Profile string
	// LogLimit is the size of a log file, of which one older is kept (16 MiB).
	LogLimit int64
	// Up takes what goes to the job manager: WorkerStarted, WorkerExited and
	// FromWorker. It must not block.
	Up func(*pb.TaskManagerMessage)
	// Log is slog's default when nil.
	Log *slog.Logger
}

// Supervisor starts and buries processes.
type Supervisor struct {
	config   Config
	binaries *binaries
	logs     *os.Root
	forker   forker
	plans    chan struct{} // a token for each plan under way
	groups   groups
	folders  jobFolders

	// ctx is the life of Run; before and after it nothing starts.
	running chan struct{}
	ctx     context.Context
	// tasks are goroutines that may start processes; processes those that
	// wait for them.
	tasks, processes sync.WaitGroup

	mu struct {
		sync.Mutex
		workers map[string]*worker
		ended   bool
		plans   uint64
	}
}

// Target is where a process finds the cluster's bucket.
type Target struct {
	Bucket blob.Bucket
	// URL is what the worker opens itself.
	URL string
}

// New opens the folders.
func New(config Config) (*Supervisor, error) {
	config.SlotMemory = cmp.Or(config.SlotMemory, 1<<30)
	config.DataHost = cmp.Or(config.DataHost, "127.0.0.1")
	config.Handshake = cmp.Or(config.Handshake, 2*time.Second)
	config.Plan = cmp.Or(config.Plan, 10*time.Second)
	config.Kill = cmp.Or(config.Kill, time.Second)
	config.Watch = cmp.Or(config.Watch, time.Second)
	config.Hang = cmp.Or(config.Hang, 10*time.Second)
	config.KeepFolders = cmp.Or(config.KeepFolders, 10*time.Minute)
	config.LogLimit = cmp.Or(config.LogLimit, 16<<20)
	if config.Log == nil {
		config.Log = slog.Default()
	}
	s := &Supervisor{config: config, plans: make(chan struct{}, 2), running: make(chan struct{})}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		s.groups = findGroups(string(mounts))
	}
	// Workers are told of it, whose working directory is their own affair.
	jobs, err := filepath.Abs(filepath.Join(config.Data, "jobs"))
	if err != nil {
		return nil, fmt.Errorf("find folder of jobs: %w", err)
	}
	if config.Profile != "" {
		if s.config.Profile, err = filepath.Abs(config.Profile); err != nil {
			return nil, fmt.Errorf("find folder of profiles: %w", err)
		}
	}
	s.folders = jobFolders{dir: jobs, idle: map[string]time.Time{}}
	s.forker.requests = make(chan forkRequest)
	s.forker.mu.ours = map[int]bool{}
	s.mu.workers = map[string]*worker{}
	if s.binaries, err = openBinaries(filepath.Join(config.Data, "binaries")); err != nil {
		return nil, fmt.Errorf("open folder of binaries: %w", err)
	}
	logs := filepath.Join(config.Data, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, fmt.Errorf("open folder of logs: %w", err)
	}
	if s.logs, err = os.OpenRoot(logs); err != nil {
		return nil, fmt.Errorf("open folder of logs: %w", err)
	}
	return s, nil
}

// Run lets processes start, and watches them, until ctx ends. It then stops
// all and returns once they are buried. It may be called once.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := adoptOrphans(); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	killOwned(s.config.Owner)
	s.ctx = ctx
	stopForker := make(chan struct{})
	var forking sync.WaitGroup
	forking.Go(func() { s.forker.run(stopForker) })
	close(s.running)

	s.watch(ctx)

	s.mu.Lock()
	s.mu.ended = true
	workers := s.workersLocked()
	s.mu.Unlock()
	for _, w := range workers {
		w.stop(s.config.Kill, true, nil)
	}
	s.tasks.Wait()
	s.processes.Wait()
	close(stopForker)
	forking.Wait()
	return nil
}

// Running is closed once Run lets processes start.
func (s *Supervisor) Running() <-chan struct{} { return s.running }

// Close frees what New opened, after Run or in its place.
func (s *Supervisor) Close() error { return s.logs.Close() }

// start runs f unless the supervisor does not run, or no more.
func (s *Supervisor) start(f func()) bool {
	select {
	case <-s.running:
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ended {
		return false
	}
	s.tasks.Go(f)
	return true
}

// watch looks at workers, strays and folders until ctx ends.
func (s *Supervisor) watch(ctx context.Context) {
	tick := time.NewTicker(s.config.Watch)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, w := range s.workers() {
			w.weigh()
			w.ask(time.Now())
		}
		if n%10 == 0 {
			s.forker.reapStrays()
			s.sweep(time.Now())
		}
	}
}

func (s *Supervisor) workers() []*worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workersLocked()
}

func (s *Supervisor) workersLocked() []*worker {
	all := make([]*worker, 0, len(s.mu.workers))
	for _, w := range s.mu.workers {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *worker) int { return strings.Compare(a.id, b.id) })
	return all
}

func (s *Supervisor) worker(id string) *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.workers[id]
}

// StartWorker starts a worker. The outcome is reported: WorkerStarted, or
// WorkerExited with the reason. One that runs already under this id is
// reported as started again; another worker of the same job is killed first.
func (s *Supervisor) StartWorker(target Target, req *pb.StartWorker) {
	w := newWorker(s, target, req)
	s.mu.Lock()
	known := s.mu.workers[w.id]
	var others []*worker
	if known == nil && !s.mu.ended {
		for _, other := range s.workersLocked() {
			if other.job == w.job {
				others = append(others, other)
			}
		}
		s.mu.workers[w.id] = w
	}
	s.mu.Unlock()
	if known != nil {
		known.announce()
		return
	}
	for _, other := range others {
		other.stop(0, true, nil)
	}
	if !s.start(func() {
		for _, other := range others {
			<-other.done
		}
		w.run()
	}) {
		s.forget(w)
		w.exited(nil, faultf(CodeShuttingDown, "start worker %s: the task manager is shutting down", w.id))
	}
}

// ResizeWorker gives a worker the memory of another number of slots, and tells
// it. An unknown one has ended, which was reported.
func (s *Supervisor) ResizeWorker(req *pb.ResizeWorker) {
	if w := s.worker(req.GetWorkerId()); w != nil {
		w.resize(req.GetSlots())
	}
}

func (s *Supervisor) forget(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.workers[w.id] == w {
		delete(s.mu.workers, w.id)
	}
}

// StopWorker ends a worker: SIGTERM to its group, and SIGKILL after the grace;
// at once when that is zero. An unknown one is reported as exited.
func (s *Supervisor) StopWorker(req *pb.StopWorker) {
	w := s.worker(req.GetWorkerId())
	if w == nil {
		s.config.Up(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerExited{
			WorkerExited: &pb.WorkerExited{WorkerId: req.GetWorkerId(), Requested: true}}})
		return
	}
	w.stop(time.Duration(req.GetGraceMs())*time.Millisecond, true, nil)
}

// Command passes a command to a worker; one that is gone gets none.
func (s *Supervisor) Command(id string, command *pb.WorkerCommand) {
	if w := s.worker(id); w != nil {
		w.command(command)
	}
}

// Workers are those that have started and not exited.
func (s *Supervisor) Workers() []*pb.WorkerStarted {
	var all []*pb.WorkerStarted
	for _, w := range s.workers() {
		if started := w.started(); started != nil {
			all = append(all, started)
		}
	}
	return all
}

// Resident is the sum of the workers' resident sets in bytes.
func (s *Supervisor) Resident() uint64 {
	var sum uint64
	for _, w := range s.workers() {
		if started := w.started(); started != nil {
			sum += Resident(int(started.GetPid()))
		}
	}
	return sum
}

// environment is what every job sees: little, and nothing of ours.
func (s *Supervisor) environment(url string, slots uint32, extra map[string]string) []string {
	keep := []string{"PATH", "HOME", "USER", "TMPDIR", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"}
	keep = append(keep, failpoint.Variables()...)
	var env []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		// The worker opens the bucket itself, by the credentials in our own
		// environment.
		if slices.Contains(keep, name) || strings.HasPrefix(url, "s3:") && strings.HasPrefix(name, "AWS_") {
			env = append(env, entry)
		}
	}
	env = append(env, "GOMEMLIMIT="+strconv.FormatUint(s.budget(slots)/10*9, 10))
	if s.config.Profile != "" {
		env = append(env, envProfile+"="+s.config.Profile)
	}
	for name, value := range extra {
		env = append(env, name+"="+value)
	}
	return env
}

// budget is the memory of so many slots.
func (s *Supervisor) budget(slots uint32) uint64 {
	return uint64(max(slots, 1)) * s.config.SlotMemory
}
