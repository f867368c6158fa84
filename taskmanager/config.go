package taskmanager

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/millrace/millrace/blob"
)

// Config says how a task manager runs. The zero value of a field is the
// default that its comment names.
type Config struct {
	// Data is the folder for shards, binaries and logs; required.
	Data string
	// Lock of that folder, where the caller has taken it and will free it after
	// Run; nil lets New take one.
	Lock *FolderLock
	// Slots to offer (number of cores), and memory of one in bytes (1 GiB).
	Slots      int
	SlotMemory uint64
	// Bind is the host to listen on, on free ports (127.0.0.1).
	Bind string
	// Advertise is the host at which others reach this one (Bind).
	Advertise string
	// KinesisAddress is where the Kinesis API over Service listens, to be shown
	// by the job manager; empty when there is none.
	KinesisAddress string

	// JobManager is the control address of the job manager, where it is known
	// beforehand: host:port, or an http or https URL. Else it is looked for in the cluster that Join leads to.
	JobManager string
	// Join are gossip addresses of members, normally of job managers.
	Join []string
	// Gossip is host:port for gossip (Bind, a free port). It is used only
	// without JobManager.
	Gossip string
	// TLS is used for the control link. Without it an address is spoken to in
	// clear text, an https URL with the system's certificates.
	TLS *tls.Config
	// Token is sent to the job manager as a bearer token, where set.
	Token string

	// Version of this build.
	Version string
	// Heartbeat is the time between two heartbeats (500 ms), Timeout the
	// silence after which the job manager is lost (2 s).
	Heartbeat, Timeout time.Duration
	// Queue bounds the messages that wait to be sent (8192).
	Queue int
	// Profile is a folder for CPU and memory profiles of workers; none are
	// taken where it is empty.
	Profile string
	// LogLimit bounds each of a worker's two log files, in bytes; one older
	// part of the same size is kept (16 MiB).
	LogLimit int64
	// Handshake is how long a started binary may take to say hello (2 s), Hang
	// how long a worker may let pings wait before it is killed (10 s).
	Handshake, Hang time.Duration
	// OpenBucket opens the bucket that the job manager names (blob.Open).
	OpenBucket func(ctx context.Context, url string) (blob.Bucket, error)
	// Log is slog's default when nil.
	Log *slog.Logger
}

// Validate fills in the defaults and returns an error that names what is
// wrong. New calls it.
func (c *Config) Validate() error {
	if c.Data == "" {
		return errors.New("task manager: no data folder; set --data")
	}
	if c.JobManager == "" && len(c.Join) == 0 {
		return errors.New("task manager: no job manager to look for; set --join")
	}
	if c.Slots < 0 || c.Slots > 4096 {
		return fmt.Errorf("task manager: %d slots; set --slots between 1 and 4096", c.Slots)
	}
	if c.Slots == 0 {
		c.Slots = runtime.NumCPU()
	}
	if c.SlotMemory == 0 {
		c.SlotMemory = 1 << 30
	}
	if c.SlotMemory < 16<<20 {
		return fmt.Errorf("task manager: %d bytes of memory a slot; set --slot-memory to at least 16 MiB", c.SlotMemory)
	}
	if c.Bind == "" {
		c.Bind = "127.0.0.1"
	}
	if c.Advertise == "" {
		c.Advertise = c.Bind
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 500 * time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Queue == 0 {
		c.Queue = 8192
	}
	if c.OpenBucket == nil {
		c.OpenBucket = blob.Open
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}
