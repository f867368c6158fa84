package jobmanager

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/clock"
)

// Defaults of Config.
const (
	DefaultREST      = "127.0.0.1:8081"
	DefaultControl   = "127.0.0.1:0"
	DefaultMaxUpload = 512 << 20
	DefaultSlotWait  = 5 * time.Minute
	DefaultPlanWait  = 30 * time.Second
)

// Config says how a job manager runs. The zero value of every field but
// Bucket is the default that its comment names.
type Config struct {
	// Bucket is the cluster's truth; required.
	Bucket blob.Bucket
	// ID names this run of the job manager in the journal; default random.
	ID string
	// REST is the address to serve REST on (DefaultREST); port 0 takes a free
	// one.
	REST string
	// Control is the address to serve the control link on (DefaultControl).
	Control string
	// Hosts are further names by which clients may address REST; loopback
	// names, IP addresses and REST's own host always may.
	Hosts []string
	// TLS serves REST and control over TLS; default clear text.
	TLS *tls.Config
	// Token, where set, is required of clients and task managers as a bearer
	// token.
	Token string
	// Insecure allows an address that is not loopback without TLS and token.
	Insecure bool

	// MaxUpload bounds an uploaded binary in bytes (DefaultMaxUpload).
	MaxUpload int64
	// UploadDir holds an upload until its digest is known; default the
	// system's folder for temporary files.
	UploadDir string
	// LogDir holds the job manager's own log files, for /jobmanager/logs;
	// empty: there are none to show.
	LogDir string
	// SlotWait is how long a submit waits for slots (DefaultSlotWait).
	SlotWait time.Duration
	// PlanWait is how long a submit waits for its plan (DefaultPlanWait).
	PlanWait time.Duration

	// Settings are shown at /jobmanager/config; secrets do not belong here.
	Settings map[string]string
	// Version and Commit of the build, shown by /overview and /config.
	Version string
	Commit  string
	// Extra are handlers served beside REST by pattern, such as "GET /metrics".
	// They stand behind the same checks.
	Extra map[string]http.Handler

	// Clock, Log, Meter and Tracer default to the system's clock, slog's
	// default, and no-ops.
	Clock  clock.Clock
	Log    *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer
}

// Validate says what is wrong with the configuration, naming the field.
func (c Config) Validate() error {
	if c.Bucket == nil {
		return api.Errorf(api.ConfigInvalid, "job manager: Bucket is not set")
	}
	c = c.withDefaults()
	for _, a := range []struct{ field, address string }{{"REST", c.REST}, {"Control", c.Control}} {
		host, port, err := net.SplitHostPort(a.address)
		if err != nil {
			return api.Errorf(api.ConfigInvalid, "job manager: %s address %q: %w", a.field, a.address, err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return api.Errorf(api.ConfigInvalid, "job manager: %s address %q: port %q is not a number from 0 to 65535", a.field, a.address, port)
		}
		if !loopback(host) && !c.Insecure && (c.TLS == nil || c.Token == "") {
			return api.Errorf(api.InsecureBind, "job manager: %s address %q is reachable from other machines, and TLS or token is missing", a.field, a.address)
		}
	}
	if c.MaxUpload < 0 || c.SlotWait < 0 || c.PlanWait < 0 {
		return api.Errorf(api.ConfigInvalid, "job manager: MaxUpload, SlotWait and PlanWait must not be negative")
	}
	return nil
}

// loopback says whether only this machine reaches the host. A name other than
// localhost is not trusted to stay one.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (c Config) withDefaults() Config {
	if c.ID == "" {
		c.ID = newID()
	}
	if c.REST == "" {
		c.REST = DefaultREST
	}
	if c.Control == "" {
		c.Control = DefaultControl
	}
	if c.MaxUpload == 0 {
		c.MaxUpload = DefaultMaxUpload
	}
	if c.UploadDir == "" {
		c.UploadDir = os.TempDir()
	}
	if c.SlotWait == 0 {
		c.SlotWait = DefaultSlotWait
	}
	if c.PlanWait == 0 {
		c.PlanWait = DefaultPlanWait
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Clock == nil {
		c.Clock = clock.System
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Meter == nil {
		c.Meter = metricnoop.Meter{}
	}
	if c.Tracer == nil {
		c.Tracer = tracenoop.Tracer{}
	}
	return c
}

// newID returns 32 random lower-case hex characters: ids of jobs, triggers
// and of this process.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
