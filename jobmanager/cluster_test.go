package jobmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/blob"
)

// network connects clients and servers of one test through pipes, so that all
// of it runs on the time of a synctest bubble.
type network struct {
	mu sync.Mutex
	at map[string]*pipeListener
}

type pipeListener struct {
	net     *network
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type pipeAddr string

func (pipeAddr) Network() string  { return "tcp" }
func (a pipeAddr) String() string { return string(a) }

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.at[l.address] == l {
			delete(l.net.at, l.address)
		}
	})
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.address) }

func (n *network) listen(_, address string) (net.Listener, error) {
	l := &pipeListener{net: n, address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[address] = l
	return l, nil
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.at[address]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	select {
	case l.conns <- a:
		return b, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cluster is one bucket with the job managers and task managers of a test.
type cluster struct {
	t      *testing.T
	bucket blob.Bucket
	net    *network
	http   *http.Client
	// objects, where set, takes what workers write.
	objects blob.Bucket
	// configure, where set, changes the configuration of leaders.
	configure func(*Config)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, bucket: blob.NewMemory(), net: &network{at: map[string]*pipeListener{}}}
	tr := &http.Transport{DialContext: c.net.dial}
	c.http = &http.Client{Transport: tr}
	t.Cleanup(tr.CloseIdleConnections)
	return c
}

// leader is a job manager that runs.
type leader struct {
	*JobManager
	stop context.CancelFunc
	err  chan error
}

func (c *cluster) lead(rest, control string) *leader {
	c.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	cfg := Config{Bucket: c.bucket, REST: rest, Control: control, Log: log, UploadDir: c.t.TempDir(),
		Version: "v1", Settings: map[string]string{"slots": "2"}, Hosts: []string{"jm.test"}}
	if c.configure != nil {
		c.configure(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	m.listenOn = c.net.listen
	ctx, cancel := context.WithCancel(c.t.Context())
	l := &leader{JobManager: m, stop: cancel, err: make(chan error, 1)}
	go func() { l.err <- m.Run(ctx) }()
	select {
	case <-m.Ready():
	case err := <-l.err:
		c.t.Fatalf("job manager did not start: %v", err)
	}
	return l
}

// kill ends a job manager and waits for it.
func (l *leader) kill(t *testing.T) {
	t.Helper()
	l.stop()
	if err := <-l.err; err != nil {
		t.Fatalf("job manager ended with %v", err)
	}
}

// call sends a request and decodes the JSON of its answer.
func (c *cluster) call(method, url string, body any, want int) map[string]any {
	c.t.Helper()
	v := c.callAny(method, url, body, want)
	m, ok := v.(map[string]any)
	if !ok {
		c.t.Fatalf("%s %s: answer %v is no object", method, url, v)
	}
	return m
}

func (c *cluster) callAny(method, url string, body any, want int) any {
	c.t.Helper()
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, url, r)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.do(req, want)
}

func (c *cluster) do(req *http.Request, want int) any {
	c.t.Helper()
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != want {
		c.t.Fatalf("%s %s: status %d, want %d: %s", req.Method, req.URL, resp.StatusCode, want, data)
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") && !strings.Contains(kind, "problem+json") {
		return string(data)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		c.t.Fatalf("%s %s: %v: %s", req.Method, req.URL, err, data)
	}
	return v
}

// upload sends bytes as a multipart upload and returns the jar's id.
func (c *cluster) upload(rest, name string, data []byte, want int) map[string]any {
	c.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("jarfile", name)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := part.Write(data); err != nil {
		c.t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, rest+"/jars/upload", &body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	return c.do(req, want).(map[string]any)
}

// executable is a binary for this platform: the test's own, cut short behind
// what is looked at.
func (c *cluster) executable() []byte {
	c.t.Helper()
	path, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

// await looks until f is true. Time is the bubble's: it costs none.
func (c *cluster) await(what string, f func() bool) {
	c.t.Helper()
	for range 3000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("waited 30 s for %s", what)
}
