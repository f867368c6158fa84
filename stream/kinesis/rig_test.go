package kinesis

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/internal/clock"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream/broker"
	"github.com/millrace/millrace/stream/catalog"
	"github.com/millrace/millrace/stream/shardlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is the API over a real broker and shard log, with the catalog decided in
// place as a job manager would.
type rig struct {
	t      testing.TB
	server *Server
	clock  *clock.Virtual
	url    string
	mu     struct {
		sync.Mutex
		catalog *pb.Catalog
	}
	broker *broker.Broker
}

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewVirtual(time.Now().Truncate(time.Millisecond))}
	log, err := shardlog.Open("shards", shardlog.Options{FS: vfs.NewMem(), Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { log.Run(ctx) })
	r.broker = broker.New(broker.Config{ID: "tm", Log: log, Command: r.command})
	r.mu.catalog = catalog.SetHost(&pb.Catalog{}, "tm", "127.0.0.1:1")
	if err := r.broker.SetCatalog(ctx, r.mu.catalog); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Service: r.broker, Keys: map[string]string{"test": "test"}, Clock: r.clock}
	if change != nil {
		change(&cfg)
	}
	if r.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + l.Addr().String()
	wait.Go(func() {
		if err := r.server.Serve(ctx, l, nil); err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		wait.Wait()
		r.broker.Close()
		log.Close()
	})
	return r
}

// command does what the job manager and this host do for a change.
func (r *rig) command(ctx context.Context, cmd *pb.StreamCommand) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := catalog.Decide(r.mu.catalog, cmd, r.clock.Now())
	for err == nil && next != nil {
		r.mu.catalog = next
		err = r.broker.SetCatalog(ctx, next)
		if next = catalog.Sealed(next, "tm", r.broker.Sealed(), r.clock.Now()); next == nil {
			next = catalog.Settle(r.mu.catalog, map[string]uint64{"tm": r.mu.catalog.Version})
		}
	}
	return err
}

// client is an unmodified AWS client.
func (r *rig) client(change ...func(*kinesis.Options)) *kinesis.Client {
	h := &http.Client{Transport: &http.Transport{}}
	r.t.Cleanup(h.CloseIdleConnections)
	o := kinesis.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(r.url), HTTPClient: plainBodies{h}, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	}
	for _, f := range change {
		f(&o)
	}
	return kinesis.New(o)
}

// plainBodies hides the WriteTo of the SDK's request bodies: it fails once the
// SDK has closed them, at which net/http, where it still looks for the end of
// the body, closes the connection under the answer.
type plainBodies struct{ *http.Client }

func (c plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{r.Body, r.Body}
	}
	return c.Client.Do(r)
}

// required says whether a tool that a test needs must be there: MILLRACE_REQUIRE
// is a list.
func required(tool string) bool {
	return slices.Contains(strings.Split(os.Getenv("MILLRACE_REQUIRE"), ","), tool)
}
