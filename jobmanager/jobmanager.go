package jobmanager

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/jobmanager/dispatch"
	"github.com/millrace/millrace/jobmanager/journal"
	"github.com/millrace/millrace/jobmanager/rest"
)

// drainWait is how long answers under way may take at the end of Run.
const drainWait = time.Second

// JobManager leads a cluster while Run runs.
type JobManager struct {
	cfg   Config
	ready chan struct{}
	// listenOn is net.Listen; tests put pipes in its place.
	listenOn func(network, address string) (net.Listener, error)
	mu       struct {
		sync.Mutex
		rest, control string
		cluster       string
		epoch         uint64
	}
}

// New checks the configuration; Run does the work.
func New(cfg Config) (*JobManager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &JobManager{cfg: cfg.withDefaults(), ready: make(chan struct{}), listenOn: net.Listen}, nil
}

// Run leads until ctx ends (nil), leadership is lost
// (journal.ErrLeadershipLost) or it could not start. Jobs are taken up again by
// the next job manager on the bucket. Run may be called once.
func (m *JobManager) Run(ctx context.Context) error {
	// Listen first: a port in use must not depose another job manager.
	restLn, err := m.listen("REST", m.cfg.REST)
	if err != nil {
		return err
	}
	defer restLn.Close()
	controlLn, err := m.listen("control", m.cfg.Control)
	if err != nil {
		return err
	}
	defer controlLn.Close()
	j, err := journal.Open(ctx, m.cfg.Bucket, journal.Options{LeaderID: m.cfg.ID, Clock: m.cfg.Clock, Log: m.cfg.Log})
	if err != nil {
		return fmt.Errorf("job manager: %w", err)
	}
	m.mu.Lock()
	m.mu.cluster, m.mu.epoch = j.ClusterID(), j.Epoch()
	m.mu.Unlock()
	d := dispatch.New(dispatch.Config{
		Bucket: m.cfg.Bucket, Journal: j, Clock: m.cfg.Clock, Log: m.cfg.Log, Tracer: m.cfg.Tracer,
		SlotWait: m.cfg.SlotWait, PlanWait: m.cfg.PlanWait, MaxUpload: m.cfg.MaxUpload, UploadDir: m.cfg.UploadDir,
	})
	unregister, err := m.observe(d)
	if err != nil {
		return fmt.Errorf("job manager: register metrics: %w", err)
	}
	defer unregister()
	return m.lead(ctx, d, restLn, controlLn)
}

// lead runs the dispatcher and its servers, and waits for both.
func (m *JobManager) lead(ctx context.Context, d *dispatch.Dispatcher, restLn, controlLn net.Listener) error {
	run, stop := context.WithCancel(ctx)
	defer stop()
	if err := d.Start(run); err != nil {
		stop()
		return errors.Join(err, d.Run(run, stop))
	}
	face := rest.New(rest.Config{
		Dispatcher: d, Token: m.cfg.Token, Hosts: m.hosts(), MaxUpload: m.cfg.MaxUpload, Settings: m.cfg.Settings,
		Version: m.cfg.Version, Commit: m.cfg.Commit, LogDir: m.cfg.LogDir, Extra: m.cfg.Extra, Log: m.cfg.Log,
	})
	restServer := m.server(face.Handler())
	restServer.ReadTimeout = 10 * time.Minute // a large binary over a slow line
	controlServer := m.server(m.controlHandler(d))
	var serving sync.WaitGroup
	failed := make(chan error, 2)
	serve := func(name string, s *http.Server, ln net.Listener) {
		serving.Go(func() {
			if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("job manager: serve %s: %w", name, err)
				stop()
			}
		})
	}
	serve("REST", restServer, restLn)
	serve("control", controlServer, controlLn)
	m.announce(restLn, controlLn)
	err := d.Run(run, stop)
	face.Close()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWait)
	defer cancel()
	if restServer.Shutdown(grace) != nil {
		_ = restServer.Close() // clients that hold on are cut off
	}
	_ = controlServer.Close()
	serving.Wait()
	select {
	case serveErr := <-failed:
		err = errors.Join(err, serveErr)
	default:
	}
	m.cfg.Log.Info("job manager stopped", "error", err)
	return err
}

func (m *JobManager) announce(restLn, controlLn net.Listener) {
	scheme := "http://"
	if m.cfg.TLS != nil {
		scheme = "https://"
	}
	m.mu.Lock()
	m.mu.rest, m.mu.control = restLn.Addr().String(), scheme+controlLn.Addr().String()
	m.mu.Unlock()
	m.cfg.Log.Info("job manager leads", "id", m.cfg.ID, "rest", restLn.Addr().String(), "control", controlLn.Addr().String())
	close(m.ready)
}

func (m *JobManager) listen(what, address string) (net.Listener, error) {
	ln, err := m.listenOn("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, api.Errorf(api.PortInUse, "job manager: %s address %s is in use: %w", what, address, err)
	}
	if err != nil {
		return nil, api.Errorf(api.ConfigInvalid, "job manager: listen on %s address %s: %w", what, address, err)
	}
	if m.cfg.TLS != nil {
		cfg := m.cfg.TLS.Clone()
		cfg.NextProtos = []string{"h2", "http/1.1"}
		ln = tls.NewListener(ln, cfg)
	}
	return ln, nil
}

func (m *JobManager) server(h http.Handler) *http.Server {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: &p,
		ReadHeaderTimeout: rest.ReadHeaderTimeout, MaxHeaderBytes: rest.MaxHeaderBytes, IdleTimeout: 2 * time.Minute,
	}
}

// controlHandler is the control link, behind the token where there is one.
func (m *JobManager) controlHandler(d *dispatch.Dispatcher) http.Handler {
	path, h := d.Control().Handler()
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.cfg.Token != "" && !rest.Authorized(r, m.cfg.Token) {
			api.WriteError(w, api.Errorf(api.Unauthorized, "control link: no valid token"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// hosts are the names by which clients may address REST.
func (m *JobManager) hosts() []string {
	hosts := append([]string(nil), m.cfg.Hosts...)
	if host, _, err := net.SplitHostPort(m.cfg.REST); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	return hosts
}

// Ready is closed once the job manager leads and serves.
func (m *JobManager) Ready() <-chan struct{} { return m.ready }

// RESTAddress is host:port of the REST interface, once ready.
func (m *JobManager) RESTAddress() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.rest
}

// ControlURL is where task managers attach, http or https, once ready.
func (m *JobManager) ControlURL() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.control
}
