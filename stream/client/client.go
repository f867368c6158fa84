package client

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

const (
	defaultRetryFor  = 10 * time.Second
	firstBackoff     = 5 * time.Millisecond
	longestBackoff   = 500 * time.Millisecond
	dialTimeout      = 3 * time.Second
	defaultReadBytes = 1 << 20
)

// Client is the client of the shard protocol.
type Client struct {
	cfg     Config
	catalog catalogCache
	wg      sync.WaitGroup // goroutines of connections, readers and stagers

	// ctx ends with Close.
	ctx   context.Context
	close context.CancelFunc

	mu struct {
		sync.Mutex
		closed bool
		conns  map[string]*connSlot
	}
}

// New returns a client that has not connected yet.
func New(cfg Config) *Client {
	if cfg.RetryFor == 0 {
		cfg.RetryFor = defaultRetryFor
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		d := &net.Dialer{Timeout: dialTimeout}
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", address)
		}
	}
	c := &Client{cfg: cfg}
	c.ctx, c.close = context.WithCancel(context.Background())
	c.mu.conns = make(map[string]*connSlot)
	return c
}

// Close ends every connection, Reader and Stager, and waits for their
// goroutines. Requests under way fail.
func (c *Client) Close() error {
	c.mu.Lock()
	c.mu.closed = true
	c.mu.Unlock()
	c.close()
	c.wg.Wait()
	return nil
}

// start runs f on a goroutine that Close waits for; false after Close.
func (c *Client) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return false
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		f()
	}()
	return true
}

// Catalog asks for the catalog as of now.
func (c *Client) Catalog(ctx context.Context) (*pb.Catalog, error) {
	return c.refresh(ctx)
}

// Describe asks for one stream as of now: NotFound if there is none.
func (c *Client) Describe(ctx context.Context, name string) (*pb.Stream, error) {
	cat, err := c.refresh(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range cat.GetStreams() {
		if s.GetName() == name {
			return s, nil
		}
	}
	return nil, stream.Errorf(stream.NotFound, "stream %s does not exist", name)
}

// Command changes the catalog and returns once the change is durable.
func (c *Client) Command(ctx context.Context, cmd *pb.StreamCommand) error {
	req := &pb.ShardRequest{Body: &pb.ShardRequest_Command{Command: cmd}}
	resp, _, _, err := c.ask(ctx, c.cfg.Address, req, nil)
	if err != nil {
		return err
	}
	return stream.FromProto(resp.GetError())
}

// Read reads a shard from a position on.
func (c *Client) Read(ctx context.Context, shard Shard, r ReadRequest) (ReadAnswer, error) {
	msg := &pb.ShardRead{
		MaxRecords: uint32(r.MaxRecords), MaxBytes: uint32(r.MaxBytes), WaitMs: uint32(r.Wait.Milliseconds()),
	}
	if r.MaxBytes == 0 {
		msg.MaxBytes = defaultReadBytes
	}
	if r.MaxRecords == 0 {
		msg.MaxRecords = stream.MaxReadRecords
	}
	if err := setPosition(msg, shard, r.At); err != nil {
		return ReadAnswer{}, err
	}
	resp, records, err := c.do(ctx, shard, nil, true, func(ref *pb.ShardRef) *pb.ShardRequest {
		msg.Shard = ref
		return &pb.ShardRequest{Body: &pb.ShardRequest_Read{Read: msg}}
	})
	if err != nil {
		return ReadAnswer{}, err
	}
	got := resp.GetRead()
	a := ReadAnswer{Records: records, MillisBehind: got.GetMillisBehind(), Skipped: got.GetSkipped(), End: got.GetEndOfShard()}
	if a.Next, err = stream.SequenceFromBytes(got.GetNext()); err != nil {
		return ReadAnswer{}, err
	}
	a.Tip, err = stream.SequenceFromBytes(got.GetTip())
	return a, err
}

func setPosition(m *pb.ShardRead, shard Shard, at stream.Position) error {
	switch at.From {
	case stream.FromAtSequence, stream.FromAfterSequence:
		seq := at.Sequence
		if err := seq.Of(shard.Generation, shard.Index); err != nil {
			return err
		}
		if p := seq.Place(); at.From == stream.FromAtSequence && p > 0 {
			seq = seq.WithPlace(p - 1)
		}
		m.After = seq[:]
	case stream.FromTimestamp:
		m.AtTimestampMs = at.Timestamp
		if at.Timestamp <= 0 {
			m.AtTimestampMs = 1
		}
	case stream.FromLatest:
		m.Latest = true
	case stream.FromTrimHorizon:
	default:
		return stream.Errorf(stream.InvalidArgument, "read from position of kind %d", at.From)
	}
	return nil
}

// Append appends a block; its records get sequence numbers in order. An
// Unavailable error leaves open whether they are in the shard.
func (c *Client) Append(ctx context.Context, shard Shard, records block.Block) (AppendAnswer, error) {
	resp, _, err := c.do(ctx, shard, records, false, func(ref *pb.ShardRef) *pb.ShardRequest {
		return &pb.ShardRequest{Body: &pb.ShardRequest_Append{Append: &pb.ShardAppend{Shard: ref, Records: uint32(records.Count())}}}
	})
	if err != nil {
		return AppendAnswer{}, err
	}
	var a AppendAnswer
	if a.First, err = stream.SequenceFromBytes(resp.GetAppend().GetFirstSequence()); err != nil {
		return a, err
	}
	a.Last, err = stream.SequenceFromBytes(resp.GetAppend().GetLastSequence())
	return a, err
}

// Stage writes a block of a transaction, durable and invisible.
func (c *Client) Stage(ctx context.Context, shard Shard, s StageRequest) error {
	_, _, err := c.do(ctx, shard, s.Records, true, func(ref *pb.ShardRef) *pb.ShardRequest {
		return &pb.ShardRequest{Body: &pb.ShardRequest_Stage{Stage: &pb.ShardStage{
			Shard: ref, Transaction: s.Transaction, Subtask: s.Subtask, Block: s.Block, Records: uint32(s.Records.Count()),
		}}}
	})
	return err
}

// Commit makes the staged blocks of a transaction readable in one shard, all
// at once. It may be repeated; already says that it had been done before.
func (c *Client) Commit(ctx context.Context, shard Shard, tx *pb.Transaction, staged []*pb.StagedCount) (records uint64, already bool, err error) {
	resp, _, err := c.do(ctx, shard, nil, true, func(ref *pb.ShardRef) *pb.ShardRequest {
		return &pb.ShardRequest{Body: &pb.ShardRequest_Commit{Commit: &pb.ShardCommit{Shard: ref, Transaction: tx, Staged: staged}}}
	})
	return resp.GetCommit().GetRecords(), resp.GetCommit().GetAlready(), err
}

// Fence makes one shard refuse what is of (lineage, sink) below an epoch, and
// drops what is staged there for it, save the transactions to keep. It returns
// the number of blocks dropped.
func (c *Client) Fence(ctx context.Context, shard Shard, lineage, sink string, epoch uint64, keep []*pb.Transaction) (uint64, error) {
	resp, _, err := c.do(ctx, shard, nil, true, func(ref *pb.ShardRef) *pb.ShardRequest {
		return &pb.ShardRequest{Body: &pb.ShardRequest_Fence{Fence: &pb.ShardFence{
			Shard: ref, Lineage: lineage, Sink: sink, Epoch: epoch, Keep: keep,
		}}}
	})
	return resp.GetFence().GetAbortedBlocks(), err
}

// Tip is the last readable sequence number of a shard, the shard's start if it
// never held a record.
func (c *Client) Tip(ctx context.Context, shard Shard) (stream.Sequence, error) {
	resp, _, err := c.do(ctx, shard, nil, true, func(ref *pb.ShardRef) *pb.ShardRequest {
		return &pb.ShardRequest{Body: &pb.ShardRequest_Tip{Tip: &pb.ShardTip{Shard: ref}}}
	})
	if err != nil {
		return stream.Sequence{}, err
	}
	seq, err := stream.SequenceFromBytes(resp.GetTip().GetTip())
	if err == nil && seq.IsZero() {
		seq = stream.StartingSequence(shard.Generation, shard.Index)
	}
	return seq, err
}

// do sends a request to the owner of a shard, again while that helps.
func (c *Client) do(ctx context.Context, shard Shard, records block.Block, repeatable bool, build func(*pb.ShardRef) *pb.ShardRequest) (*pb.ShardResponse, block.Block, error) {
	var giveUp time.Time
	backoff := firstBackoff
	for try := 0; ; try++ {
		resp, got, sent, err := c.once(ctx, shard, records, build, try > 0)
		if err == nil {
			return resp, got, nil
		}
		again := false
		switch stream.KindOf(err) {
		case stream.NotOwner:
			again = true
		case stream.Unavailable:
			again = repeatable || !sent
		}
		if try == 0 {
			giveUp = time.Now().Add(c.cfg.RetryFor)
		}
		if !again || ctx.Err() != nil || c.ctx.Err() != nil || time.Now().Add(backoff).After(giveUp) {
			return nil, nil, err
		}
		if !pause(ctx, c.ctx, backoff) {
			return nil, nil, err
		}
		backoff = min(2*backoff, longestBackoff)
	}
}

// once tries a request at the owner that the catalog names. sent says that the
// host may have seen it.
func (c *Client) once(ctx context.Context, shard Shard, records block.Block, build func(*pb.ShardRef) *pb.ShardRequest, fresh bool) (_ *pb.ShardResponse, _ block.Block, sent bool, _ error) {
	ref, address, err := c.locate(ctx, shard, fresh)
	if err != nil {
		return nil, nil, false, err
	}
	resp, got, sent, err := c.ask(ctx, address, build(ref), records)
	if err != nil {
		return nil, nil, sent, err
	}
	// An answer that is an error is a refusal: nothing was done, save that a
	// host which failed in the middle says Unavailable itself.
	return resp, got, stream.KindOf(stream.FromProto(resp.GetError())) == stream.Unavailable, stream.FromProto(resp.GetError())
}

func pause(ctx, other context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-other.Done():
	}
	return false
}
