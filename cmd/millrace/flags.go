package main

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// size is a number of bytes: 512MiB, 1GiB, 1073741824.
type size uint64

var units = []struct {
	suffix string
	bytes  uint64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(string(text), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || n < 0 || n*float64(u.bytes) > math.MaxInt64 {
			break
		}
		*s = size(n * float64(u.bytes))
		return nil
	}
	return fmt.Errorf("%q is no number of bytes, such as 512MiB or 2GiB", text)
}

// amount is a number of things: 5000, 10k, 50M, 2G.
type amount int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *amount) UnmarshalText(text []byte) error {
	factor, digits := int64(1), string(text)
	for suffix, f := range map[string]int64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if d, ok := strings.CutSuffix(digits, suffix); ok {
			factor, digits = f, d
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/factor || n < math.MinInt64/factor {
		return fmt.Errorf("%q is no number, such as 5000, 10k or 50M", text)
	}
	*a = amount(n * factor)
	return nil
}

// dataFlags say where a process keeps what is its own.
type dataFlags struct {
	Data     string `env:"MILLRACE_DATA" default:"./millrace-data" type:"path" placeholder:"FOLDER" help:"Folder for everything on disk (${default})."`
	LogLevel string `env:"MILLRACE_LOG_LEVEL" enum:"debug,info,warn,error" default:"warn" help:"What goes to stderr: debug, info, warn or error (${default})."`
}

// logger writes events to stderr.
func (f dataFlags) logger() *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		level = slog.LevelWarn // kong has checked the value
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// slotFlags say what a task manager offers.
type slotFlags struct {
	Slots      int  `env:"MILLRACE_SLOTS" default:"4" placeholder:"N" help:"Slots to offer (${default})."`
	SlotMemory size `env:"MILLRACE_SLOT_MEMORY" default:"1GiB" placeholder:"BYTES" help:"Memory of a slot; a worker that goes over its slots' sum is ended (${default})."`
	// WorkerHang is about processes; a task that hangs is a setting of its job.
	WorkerHang time.Duration `env:"MILLRACE_WORKER_HANG" default:"10s" placeholder:"TIME" help:"How long a worker may not answer before it is killed (${default})."`
	Profile    string        `env:"MILLRACE_PROFILE" type:"path" placeholder:"FOLDER" help:"Folder into which workers write profiles of their CPU time and memory, for go tool pprof (none)."`
}

// Validate implements kong's check of a parsed command.
func (f slotFlags) Validate() error {
	if f.Slots < 1 {
		return fmt.Errorf("--slots %d: a task manager offers at least one", f.Slots)
	}
	if f.WorkerHang < time.Second {
		return fmt.Errorf("--worker-hang %v: workers are asked once a second; give them at least that", f.WorkerHang)
	}
	return nil
}

// restServerFlags say how REST is served.
type restServerFlags struct {
	REST        string `name:"rest" env:"MILLRACE_REST" default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Address of the REST API; port 0 takes a free one (${default})."`
	RestTLSCert string `name:"rest-tls-cert" env:"MILLRACE_REST_TLS_CERT" type:"path" placeholder:"FILE" help:"Certificate of REST and the control link, in PEM."`
	RestTLSKey  string `name:"rest-tls-key" env:"MILLRACE_REST_TLS_KEY" type:"path" placeholder:"FILE" help:"Its key."`
	RestToken   string `name:"rest-token" env:"MILLRACE_REST_TOKEN" type:"path" placeholder:"FILE" help:"File with the bearer token that clients must send."`
	Insecure    bool   `env:"MILLRACE_INSECURE" help:"Allow addresses that other machines reach without TLS and token: whoever reaches them runs code here."`
}

// kinesisServerFlags say how the Kinesis API is served.
type kinesisServerFlags struct {
	Kinesis        string `name:"kinesis" env:"MILLRACE_KINESIS" default:"127.0.0.1:4567" placeholder:"HOST:PORT" help:"Address of the Kinesis API; port 0 takes a free one (${default})."`
	KinesisKeys    string `name:"kinesis-keys" env:"MILLRACE_KINESIS_KEYS" type:"path" placeholder:"FILE" help:"File of lines 'access secret' that may sign requests (on loopback: test test)."`
	KinesisLimits  string `name:"kinesis-limits" env:"MILLRACE_KINESIS_LIMITS" enum:"none,kinesis" default:"none" help:"Rate limits: none, or Kinesis' own a shard (${default}). Size, count and paging limits always hold."`
	KinesisTLSCert string `name:"kinesis-tls-cert" env:"MILLRACE_KINESIS_TLS_CERT" type:"path" placeholder:"FILE" help:"Certificate of the Kinesis API, in PEM."`
	KinesisTLSKey  string `name:"kinesis-tls-key" env:"MILLRACE_KINESIS_TLS_KEY" type:"path" placeholder:"FILE" help:"Its key."`
}

// bucketURL is --bucket, or a folder in the data folder.
func bucketURL(bucket, data string) string {
	if bucket != "" {
		return bucket
	}
	return "file://" + data + "/bucket"
}

// listen opens a port and names the flag where it cannot.
func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s %s: %w\n  another process may use the port: choose another (port 0 takes a free one)", flag, address, err)
	}
	return l, nil
}

// loopback says whether only this machine reaches an address.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
