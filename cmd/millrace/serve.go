package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/jobmanager"
	"github.com/millrace/millrace/stream/kinesis"
	"github.com/millrace/millrace/taskmanager"
)

type upCmd struct {
	dataFlags
	slotFlags
	restServerFlags
	kinesisServerFlags
	Bucket    string `env:"MILLRACE_BUCKET" placeholder:"URL" help:"Bucket for jobs and checkpoints: file:///path or s3://bucket/prefix?endpoint=URL (bucket in the data folder)."`
	Bind      string `env:"MILLRACE_BIND" default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Address that further task managers join (${default})."`
	Advertise string `env:"MILLRACE_ADVERTISE" placeholder:"HOST" help:"Host at which other machines reach this one (that of --bind)."`
}

func (*upCmd) Help() string {
	return `Prints "ready ..." once it is so. Ctrl-C ends it; started again on the same folder it goes on with its jobs.

Examples:
  millrace up
  millrace up --data /var/lib/millrace --slots 8
  millrace up --rest 127.0.0.1:0 --kinesis 127.0.0.1:0`
}

func (u *upCmd) Run(ctx context.Context, c *console) (err error) {
	defer func(life context.Context) { err = asked(life, err) }(ctx)
	log := u.logger()
	// First of all: a second process on the folder must not take the lead.
	lock, err := taskmanager.LockFolder(u.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	l, err := u.listen(u.Insecure)
	if err != nil {
		return err
	}
	defer l.Close()
	jm, err := newLeader(ctx, leaderConfig{u.dataFlags, u.restServerFlags, u.Bucket, u.Bind, u.Advertise, u.slotFlags}, log)
	if err != nil {
		return err
	}
	defer jm.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return jm.run(ctx) })
	if !jm.wait(ctx) {
		return g.Wait()
	}
	host, _, err := net.SplitHostPort(u.Bind)
	if err != nil {
		return usageError{fmt.Errorf("--bind %s: %w", u.Bind, err)}
	}
	tm, err := taskmanager.New(taskmanager.Config{
		Data: u.Data, Lock: lock, Slots: u.Slots, SlotMemory: uint64(u.SlotMemory), Hang: u.WorkerHang, Profile: u.Profile, Bind: host, Advertise: u.Advertise,
		KinesisAddress: l.Addr().String(), JobManager: jm.ControlURL(), Token: jm.token, TLS: jm.clientTLS(),
		Version: version, Log: log,
	})
	if err != nil {
		jm.stop()
		return errors.Join(err, g.Wait())
	}
	g.Go(func() error { return tm.Run(ctx) })
	g.Go(func() error { return u.serve(ctx, l, tm, log) })
	g.Go(func() error {
		select {
		case <-tm.Ready():
			fmt.Fprintf(c.out, "ready rest=%s kinesis=%s data=%s\n", jm.url(), u.url(l), u.shown())
			log.Info("cluster", "join", jm.cluster.GossipAddress())
		case <-ctx.Done():
		}
		return nil
	})
	return g.Wait()
}

// asked makes an error of what was broken off because the process was asked to
// end no error: it did as it was told, at whatever it was.
func asked(life context.Context, err error) error {
	if life.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// shown is the data folder as the user wrote it, where it is the default.
func (f dataFlags) shown() string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, f.Data); err == nil && filepath.IsLocal(rel) {
			return "./" + rel
		}
	}
	return f.Data
}

type jobmanagerCmd struct {
	dataFlags
	restServerFlags
	Bucket    string `env:"MILLRACE_BUCKET" placeholder:"URL" help:"Bucket for jobs and checkpoints, the same for all processes (bucket in the data folder)."`
	Bind      string `env:"MILLRACE_BIND" default:"127.0.0.1:6123" placeholder:"HOST:PORT" help:"Address that task managers join (${default})."`
	Advertise string `env:"MILLRACE_ADVERTISE" placeholder:"HOST" help:"Host at which other machines reach this one (that of --bind)."`
}

func (*jobmanagerCmd) Help() string {
	return `Prints "ready ..." once it leads. Jobs outlive it: started again on the same bucket it goes on with them.

Examples:
  millrace jobmanager --data /var/lib/millrace
  millrace jobmanager --bucket 's3://millrace/prod?region=eu-central-1'`
}

func (j *jobmanagerCmd) Run(ctx context.Context, c *console) (err error) {
	defer func(life context.Context) { err = asked(life, err) }(ctx)
	jm, err := newLeader(ctx, leaderConfig{j.dataFlags, j.restServerFlags, j.Bucket, j.Bind, j.Advertise, slotFlags{}}, j.logger())
	if err != nil {
		return err
	}
	defer jm.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return jm.run(ctx) })
	if jm.wait(ctx) {
		fmt.Fprintf(c.out, "ready rest=%s join=%s data=%s\n", jm.url(), jm.cluster.GossipAddress(), j.shown())
	}
	return g.Wait()
}

type taskmanagerCmd struct {
	dataFlags
	slotFlags
	kinesisServerFlags
	Bind      string   `env:"MILLRACE_BIND" default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Host to listen on, and the port of gossip (${default})."`
	Advertise string   `env:"MILLRACE_ADVERTISE" placeholder:"HOST" help:"Host at which other machines reach this one (that of --bind)."`
	Join      []string `env:"MILLRACE_JOIN" default:"127.0.0.1:6123" placeholder:"HOST:PORT" help:"Members to join: the --bind of job managers (${default})."`
	RestToken string   `name:"rest-token" env:"MILLRACE_REST_TOKEN" type:"path" placeholder:"FILE" help:"File with the bearer token of the job manager."`
	Insecure  bool     `env:"MILLRACE_INSECURE" help:"Allow addresses that other machines reach without TLS and token: whoever reaches them runs code here."`
}

func (*taskmanagerCmd) Help() string {
	return `Each task manager has a data folder of its own: its shards live there.

Examples:
  millrace taskmanager --data /var/lib/millrace-tm --join jm1:6123
  millrace taskmanager --data ./tm2 --kinesis 127.0.0.1:0 --slots 2`
}

func (t *taskmanagerCmd) Run(ctx context.Context, c *console) (err error) {
	defer func(life context.Context) { err = asked(life, err) }(ctx)
	log := t.logger()
	host, _, err := net.SplitHostPort(t.Bind)
	if err != nil {
		return usageError{fmt.Errorf("--bind %s: %w", t.Bind, err)}
	}
	if !loopback(t.Bind) && !t.Insecure {
		return usageError{fmt.Errorf("--bind %s is reachable from other machines, and links between workers and to shards are not encrypted: keep them on a trusted network and say --insecure", t.Bind)}
	}
	token, err := readToken(t.RestToken)
	if err != nil {
		return err
	}
	l, err := t.listen(t.Insecure)
	if err != nil {
		return err
	}
	defer l.Close()
	tm, err := taskmanager.New(taskmanager.Config{
		Data: t.Data, Slots: t.Slots, SlotMemory: uint64(t.SlotMemory), Hang: t.WorkerHang, Profile: t.Profile, Bind: host, Advertise: t.Advertise,
		KinesisAddress: l.Addr().String(), Join: t.Join, Gossip: t.Bind, Token: token, Version: version, Log: log,
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return tm.Run(ctx) })
	g.Go(func() error { return t.serve(ctx, l, tm, log) })
	g.Go(func() error {
		select {
		case <-tm.Ready():
			fmt.Fprintf(c.out, "ready kinesis=%s id=%s data=%s\n", t.url(l), tm.ID(), t.shown())
		case <-ctx.Done():
		}
		return nil
	})
	return g.Wait()
}

// listen opens the Kinesis port.
func (f kinesisServerFlags) listen(insecure bool) (net.Listener, error) {
	if (f.KinesisTLSCert == "") != (f.KinesisTLSKey == "") {
		return nil, usageError{errors.New("--kinesis-tls-cert and --kinesis-tls-key go together")}
	}
	if !loopback(f.Kinesis) && f.KinesisKeys == "" && !insecure {
		return nil, usageError{fmt.Errorf("--kinesis %s is reachable from other machines: set --kinesis-keys (the keys test and test are for loopback only), or --insecure", f.Kinesis)}
	}
	return listen("kinesis", f.Kinesis)
}

func (f kinesisServerFlags) url(l net.Listener) string {
	if f.KinesisTLSCert != "" {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// serve answers the Kinesis API until ctx ends.
func (f kinesisServerFlags) serve(ctx context.Context, l net.Listener, tm *taskmanager.TaskManager, log *slog.Logger) error {
	keys := map[string]string{"test": "test"}
	if f.KinesisKeys != "" {
		var err error
		if keys, _, err = readKeys(f.KinesisKeys); err != nil {
			return err
		}
	}
	// Servers with the same keys take each other's iterators.
	digest := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(digest, "%s %s\n", k, keys[k])
	}
	srv, err := kinesis.New(kinesis.Config{
		Service: tm.Service(), Keys: keys, TokenKey: digest.Sum(nil), RateLimits: f.KinesisLimits == "kinesis", Log: log,
	})
	if err != nil {
		return err
	}
	var cert *tls.Certificate
	if f.KinesisTLSCert != "" {
		c, err := tls.LoadX509KeyPair(f.KinesisTLSCert, f.KinesisTLSKey)
		if err != nil {
			return fmt.Errorf("--kinesis-tls-cert: %w", err)
		}
		cert = &c
	}
	return srv.Serve(ctx, l, cert)
}

// leaderConfig is what up and jobmanager share.
type leaderConfig struct {
	dataFlags
	restServerFlags
	Bucket, Bind, Advertise string
	slots                   slotFlags
}

// leader is a job manager with its membership and telemetry.
type leader struct {
	*jobmanager.JobManager
	cfg       leaderConfig
	bucket    blob.Bucket
	cluster   *cluster.Cluster
	telemetry *telemetry
	token     string
	tls       *tls.Config
	joined    chan struct{}
	cancel    context.CancelFunc
	log       *slog.Logger
}

func newLeader(ctx context.Context, cfg leaderConfig, log *slog.Logger) (_ *leader, err error) {
	l := &leader{cfg: cfg, log: log, joined: make(chan struct{})}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if (cfg.RestTLSCert == "") != (cfg.RestTLSKey == "") {
		return nil, usageError{errors.New("--rest-tls-cert and --rest-tls-key go together")}
	}
	if l.token, err = readToken(cfg.RestToken); err != nil {
		return nil, err
	}
	if cfg.RestTLSCert != "" {
		cert, err := tls.LoadX509KeyPair(cfg.RestTLSCert, cfg.RestTLSKey)
		if err != nil {
			return nil, fmt.Errorf("--rest-tls-cert: %w", err)
		}
		l.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	if !loopback(cfg.Bind) && !cfg.Insecure {
		return nil, usageError{fmt.Errorf("--bind %s is reachable from other machines, and gossip and links between workers are not encrypted: keep them on a trusted network and say --insecure", cfg.Bind)}
	}
	url := bucketURL(cfg.Bucket, cfg.Data)
	if l.bucket, err = blob.Open(ctx, url); err != nil {
		return nil, fmt.Errorf("--bucket %s: %w", url, err)
	}
	if l.telemetry, err = newTelemetry(ctx); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(cfg.Bind)
	if err != nil {
		return nil, usageError{fmt.Errorf("--bind %s: %w", cfg.Bind, err)}
	}
	l.JobManager, err = jobmanager.New(jobmanager.Config{
		Bucket: l.bucket, REST: cfg.REST, Control: net.JoinHostPort(host, "0"), TLS: l.tls, Token: l.token, Insecure: cfg.Insecure,
		Settings: l.settings(url), Version: version, Extra: l.telemetry.handlers(), Log: log,
		Meter: l.telemetry.meter, Tracer: l.telemetry.tracer,
	})
	return l, err
}

// settings are what REST shows of the configuration.
func (l *leader) settings(bucket string) map[string]string {
	s := map[string]string{"data": l.cfg.Data, "bucket": bucket, "rest": l.cfg.REST, "bind": l.cfg.Bind}
	if l.cfg.slots.Slots > 0 {
		s["slots"] = fmt.Sprint(l.cfg.slots.Slots)
		s["slot-memory"] = fmt.Sprint(uint64(l.cfg.slots.SlotMemory))
		s["worker-hang"] = l.cfg.slots.WorkerHang.String()
	}
	return s
}

// run leads until ctx ends, and lets task managers find the leader.
func (l *leader) run(ctx context.Context) error {
	ctx, l.cancel = context.WithCancel(ctx)
	defer l.cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.JobManager.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-l.Ready():
		}
		return l.join(ctx)
	})
	return g.Wait()
}

// join makes the leader a member that task managers find, until ctx ends.
func (l *leader) join(ctx context.Context) error {
	c, err := cluster.Join(cluster.Config{
		Name: l.ID(), Role: cluster.JobManager, Bind: l.cfg.Bind, Advertise: l.cfg.Advertise, Logger: l.log,
		Meta: cluster.Meta{ControlAddress: advertised(l.ControlURL(), l.cfg.Advertise), ClusterID: l.ClusterID(), LeaderEpoch: l.Epoch()},
	})
	if err != nil {
		return fmt.Errorf("--bind %s: %w", l.cfg.Bind, err)
	}
	defer c.Close()
	l.cluster = c
	close(l.joined)
	return c.Run(ctx)
}

// advertised is a URL at the host at which other machines reach this one, where
// that is not the one that is listened on.
func advertised(address, host string) string {
	u, err := url.Parse(address)
	if host == "" || err != nil {
		return address
	}
	u.Host = net.JoinHostPort(host, u.Port())
	return u.String()
}

// wait returns true once the job manager leads and is a member of the cluster,
// false when it ended before.
func (l *leader) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-l.joined:
		return true
	}
}

func (l *leader) stop() { l.cancel() }

func (l *leader) url() string {
	if l.tls != nil {
		return "https://" + l.RESTAddress()
	}
	return "http://" + l.RESTAddress()
}

// clientTLS trusts the leader's own certificate, for the task manager in the
// same process.
func (l *leader) clientTLS() *tls.Config {
	if l.tls == nil {
		return nil
	}
	own := l.tls.Certificates[0].Certificate[0]
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection compares the whole certificate instead
		VerifyConnection: func(s tls.ConnectionState) error {
			if !slices.Equal(s.PeerCertificates[0].Raw, own) {
				return errors.New("the control link answers with another certificate than this process's own")
			}
			return nil
		},
	}
}

func (l *leader) close() {
	if l.bucket != nil {
		l.bucket.Close()
	}
	if l.telemetry != nil {
		l.telemetry.close()
	}
}
