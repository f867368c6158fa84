package exchange

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiverAlone is worker 1 of two, whose peer the test plays itself.
type receiverAlone struct {
	n        *Network
	listener *Listener
	gate     Gate
	taker    *takingOperator[text]
	notify   chan struct{}
	ended    chan error
	cancel   context.CancelFunc
}

func newReceiverAlone(t *testing.T, epoch uint64) *receiverAlone {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := Listen("job", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listening := make(chan error, 1)
	go func() { listening <- ln.Run(ctx) }()
	a := &receiverAlone{listener: ln, ended: make(chan error, 1), cancel: cancel, notify: make(chan struct{}, 1)}
	a.taker = &takingOperator[text]{}
	a.n, a.gate = a.network(t, epoch)
	go func() { a.ended <- a.n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-listening; err != nil {
			t.Error(err)
		}
		<-a.n.Done()
	})
	<-a.n.Connected()
	return a
}

func (a *receiverAlone) network(t *testing.T, epoch uint64) (*Network, Gate) {
	t.Helper()
	n, err := NewNetwork(Config{
		JobID: "job", Epoch: epoch, Token: "secret", Self: 1, Listener: a.listener,
		Graph:   edgeGraph(layout{ship: pb.Ship_SHIP_HASH, senders: 2, receivers: 2}),
		Workers: []*pb.WorkerAddress{{WorkerId: "red"}, {WorkerId: "blue"}}, SlotWorker: []uint32{0, 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := typeOf[text](t).NewGate(n, GateConfig{Vertex: 1, Subtask: 1, To: In{Operator: a.taker, Name: "count"}, Notify: a.notify})
	if err != nil {
		t.Fatal(err)
	}
	return n, g
}

// dial opens a connection with a preface and returns the first answer.
func (a *receiverAlone) dial(t *testing.T, first []byte) (net.Conn, byte, error) {
	t.Helper()
	conn, err := net.Dial("tcp", a.listener.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write(first); err != nil {
		t.Fatal(err)
	}
	f := frameReader{r: conn}
	kind, _, size, err := f.next()
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(conn, body); err != nil {
		t.Fatal(err)
	}
	if kind == frameError {
		return conn, kind, decodeRefusal(body)
	}
	return conn, kind, nil
}

func red(epoch uint64) preface {
	return preface{job: "job", epoch: epoch, sender: 0, receiver: 1, token: "secret"}
}

func TestStrangersAreRefused(t *testing.T) {
	a := newReceiverAlone(t, 5)
	first := func(change func(*preface)) []byte {
		p := red(5)
		change(&p)
		return p.append(nil)
	}
	flipped := func(at int, bits byte) []byte {
		p := first(func(*preface) {})
		p[at] ^= bits
		return p
	}
	for name, c := range map[string]struct {
		first []byte
		code  string
		says  string
	}{
		"magic":           {flipped(0, 1), "protocol-mismatch", "MRDP"},
		"version":         {flipped(4, 1), "protocol-mismatch", "version 0, this worker speaks 1"},
		"header too long": {flipped(7, 0x80), "protocol-mismatch", "preface"},
		"lengths":         {flipped(24, 1), "protocol-mismatch", "does not parse"},
		"old epoch":       {first(func(p *preface) { p.epoch = 4 }), "stale-epoch", "epoch 4"},
		"other job":       {first(func(p *preface) { p.job = "other" }), "stale-epoch", "not other"},
		"token":           {first(func(p *preface) { p.token = "guess" }), "unauthorized", "token"},
		"unknown worker":  {first(func(p *preface) { p.sender = 2 }), "stale-epoch", "worker 2"},
		"itself":          {first(func(p *preface) { p.sender = 1 }), "stale-epoch", "worker 1"},
		"other receiver":  {first(func(p *preface) { p.receiver = 0 }), "stale-epoch", "to worker 0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := a.dial(t, c.first)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Code != c.code || !strings.Contains(refused.Message, c.says) {
				t.Fatalf("got %#v, want %s with %q", err, c.code, c.says)
			}
		})
	}
}

// TestConnectionWaitsForItsEpoch: a sender may be deployed before the receiver.
func TestConnectionWaitsForItsEpoch(t *testing.T) {
	a := newReceiverAlone(t, 5)
	p := red(6)
	accepted := make(chan byte, 1)
	go func() {
		_, kind, _ := a.dial(t, p.append(nil))
		accepted <- kind
	}()
	// End epoch 5 and begin 6, at the same listener.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next, _ := a.network(t, 6)
	if err := next.config.Listener.attach(next); err == nil {
		t.Fatal("two networks at one listener")
	}
	a.listener.detach()
	ended := make(chan error, 1)
	go func() { ended <- next.Run(ctx) }()
	if kind := <-accepted; kind != frameAccepted {
		t.Fatalf("answer of kind %d", kind)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestLostConnectionNamesBothWorkers(t *testing.T) {
	a := newReceiverAlone(t, 5)
	p := red(5)
	conn, kind, err := a.dial(t, p.append(nil))
	if err != nil || kind != frameAccepted {
		t.Fatalf("kind %d, %v", kind, err)
	}
	_ = conn.Close()
	err = <-a.ended
	wantError(t, err, "red", "blue")
	if !errors.Is(a.n.Err(), io.EOF) {
		t.Fatalf("Err is %v", a.n.Err())
	}
}

// TestFarewellIsNoLoss: a worker that ends its attempt does not fail the
// others, one that goes without a word does, at either end of a connection.
func TestFarewellIsNoLoss(t *testing.T) {
	for _, polite := range []bool{true, false} {
		for _, end := range []string{"inbound", "outbound"} {
			t.Run(fmt.Sprintf("%s %v", end, polite), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { farewellCase(t, end, polite) })
			})
		}
	}
}

func farewellCase(t *testing.T, end string, polite bool) {
	ctx, cancel := context.WithCancel(t.Context())
	here, there := net.Pipe()
	n := &Network{config: Config{Workers: []*pb.WorkerAddress{{WorkerId: "red"}, {WorkerId: "blue"}}, Self: 1}}
	ended := make(chan error, 1)
	go func() {
		if end == "inbound" {
			ended <- newInbound(n, 0, here).run(ctx)
		} else {
			ended <- newOutbound(n, 0).carry(ctx, here)
		}
	}()
	peer := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, there); close(peer) }()
	if polite {
		farewell(there)
	}
	_ = there.Close()
	time.Sleep(2 * lossPatience)
	synctest.Wait()
	if polite {
		select {
		case err := <-ended:
			t.Fatalf("ended with %v", err)
		default:
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	} else {
		wantError(t, <-ended, "red", "blue")
	}
	cancel()
	<-peer
}

// TestCancelDoesNotWaitForAHungPeer: the other side never reads.
func TestCancelDoesNotWaitForAHungPeer(t *testing.T) {
	for _, end := range []string{"inbound", "outbound"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				here, there := net.Pipe()
				defer there.Close()
				n := &Network{config: Config{Workers: []*pb.WorkerAddress{{}, {}}, Self: 1}}
				ended := make(chan error, 1)
				go func() {
					if end == "inbound" {
						ended <- newInbound(n, 0, here).run(ctx)
						return
					}
					o := newOutbound(n, 0)
					o.send([]byte("a frame"))
					ended <- o.carry(ctx, here)
				}()
				synctest.Wait()
				cancel()
				from := time.Now()
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				if took := time.Since(from); took > 2*endPatience {
					t.Fatalf("it took %v", took)
				}
			})
		})
	}
}

func TestNobodyListensNamesBothWorkers(t *testing.T) {
	ln, err := Listen("job", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := ln.Address()
	_ = ln.Close()
	if ln, err = Listen("job", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	n, err := NewNetwork(Config{JobID: "job", Epoch: 1, Listener: ln,
		Graph:   edgeGraph(layout{ship: pb.Ship_SHIP_REBALANCE, senders: 1, receivers: 2}),
		Workers: []*pb.WorkerAddress{{WorkerId: "red"}, {WorkerId: "blue", DataAddress: gone}}, SlotWorker: []uint32{1, 0}})
	if err != nil {
		t.Fatal(err)
	}
	typ := typeOf[small](t)
	// Receivers 0 is at blue, 1 here; the sender is put here.
	if _, err := typ.NewWriter(n, WriterConfig{From: Out{Operator: &sendingOperator[small]{}, Name: "from"}, To: "to"}); err != nil {
		t.Fatal(err)
	}
	if _, err := typ.NewGate(n, GateConfig{Vertex: 1, Subtask: 1, To: In{Operator: &takingOperator[small]{}, Name: "to"}}); err != nil {
		t.Fatal(err)
	}
	wantError(t, n.Run(t.Context()), "red", "blue", gone)
	<-n.Done()
	wantError(t, n.Err(), "blue")
}

// frames for worker blue, from subtask 0 of red.
func textFrame(t *testing.T, rows ...text) []byte {
	t.Helper()
	typ := typeOf[text](t).(typed[text])
	var body []byte
	body = binary.LittleEndian.AppendUint32(body, uint32(len(rows)))
	for range rows {
		body = binary.LittleEndian.AppendUint64(body, 7)
	}
	for range rows {
		body = binary.LittleEndian.AppendUint64(body, 1<<63)
	}
	body = typ.codec.AppendAll(body, rows)
	f, err := endFrame(append(beginFrame(nil, frameBatch, 2), body...))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFramesFromAnyHand(t *testing.T) {
	good := textFrame(t, text{1, "one"}, text{2, "two"})
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, c := range map[string]struct {
		frame []byte
		says  string
	}{
		"channel of another worker": {change(func(b []byte) []byte { b[5] = 3; return b }), "channel 3"},
		"unknown channel":           {change(func(b []byte) []byte { b[7] = 1; return b }), "channel 65538"},
		"unknown kind":              {change(func(b []byte) []byte { b[4] = 77; return b }), "kind 77"},
		"length":                    {change(func(b []byte) []byte { b[3] = 200; return b }), "length"},
		"credit":                    {appendCredit(nil, 2, 5, 9), "kind 6"},
		"watermark too short":       {[]byte{6, 0, 0, 0, frameWatermark, 2, 0, 0, 0, 1}, "1 bytes"},
		"barrier flags":             {appendFlags(), "flags 0x80"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newReceiverAlone(t, 5)
			p := red(5)
			conn, _, err := a.dial(t, p.append(nil))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(c.frame); err != nil {
				t.Fatal(err)
			}
			err = <-a.ended
			wantError(t, err, c.says, "red", "blue")
			if !errors.Is(err, errCorrupt) {
				t.Fatalf("%v is not errCorrupt", err)
			}
		})
	}
	t.Run("records", func(t *testing.T) {
		a := newReceiverAlone(t, 5)
		p := red(5)
		conn, _, err := a.dial(t, p.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		bad := change(func(b []byte) []byte { b[9] = 3; return b })
		if _, err := conn.Write(append(bytes.Clone(good), bad...)); err != nil {
			t.Fatal(err)
		}
		var got []text
		a.taker.take = func(b *batch.Batch[text]) error { got = append(got, b.Values...); return nil }
		for err == nil {
			var it Item
			if it, err = a.gate.Poll(); it.Kind == None && err == nil {
				<-a.notify
			}
		}
		wantError(t, err, "count", "from/0")
		if !errors.Is(err, errCorrupt) || len(got) != 2 || got[1] != (text{2, "two"}) {
			t.Fatalf("got %v, %v", got, err)
		}
	})
}

func appendFlags() []byte {
	b := appendEvent(nil, 2, Barrier, 0, barrier.Barrier{ID: 1})
	b[len(b)-1] = 0x80
	return b
}

// TestSenderWithoutCreditIsCut: a peer cannot fill this worker's memory.
func TestSenderWithoutCreditIsCut(t *testing.T) {
	a := newReceiverAlone(t, 5)
	p := red(5)
	conn, _, err := a.dial(t, p.append(nil))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		frame := appendEvent(nil, 2, Idle, 0, barrier.Barrier{})
		for err == nil {
			_, err = conn.Write(bytes.Repeat(frame, 100))
		}
	}()
	wantError(t, <-a.ended, "without credit", "red", "blue")
}

func TestConfigValidate(t *testing.T) {
	g := edgeGraph(layout{ship: pb.Ship_SHIP_FORWARD, senders: 2, receivers: 2})
	two := []*pb.WorkerAddress{{}, {}}
	for name, c := range map[string]Config{
		"self":     {Graph: g, Workers: two, Self: 2},
		"slot":     {Graph: g, Workers: two, SlotWorker: []uint32{0, 2}},
		"too few":  {Graph: g, Workers: two[:1], SlotWorker: []uint32{0}},
		"listener": {Graph: g, Workers: two, SlotWorker: []uint32{0, 1}},
		"negative": {Graph: g, Workers: two[:1], SlotWorker: []uint32{0, 0}, Credit: -1},
	} {
		if _, err := NewNetwork(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTopologyNumbersChannels(t *testing.T) {
	g := &pb.JobGraph{Vertices: []*pb.Vertex{
		{Id: "a", Parallelism: 2},
		{Id: "b", Parallelism: 2, Inputs: []*pb.Input{{FromVertex: "a", Ship: pb.Ship_SHIP_FORWARD}}},
		{Id: "c", Parallelism: 3, Inputs: []*pb.Input{
			{FromVertex: "b", Ship: pb.Ship_SHIP_HASH, Port: 1}, {FromVertex: "a", Ship: pb.Ship_SHIP_BROADCAST, FromOperator: 4, Tag: "x"}}},
	}}
	topology, err := NewTopology(g)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	for i := range topology.Edges {
		e := &topology.Edges[i]
		for r := range e.Receivers {
			for s := range e.Senders {
				if n := e.Channel(s, r); seen[n] || n >= topology.channels {
					t.Errorf("edge %d: channel %d from %d to %d is taken or too great", i, n, s, r)
				} else {
					seen[n] = true
				}
			}
		}
	}
	if in := topology.Inputs(2, 0); len(in) != 1 || in[0].ID != 2 || in[0].FromOperator != 4 || in[0].Tag != "x" {
		t.Errorf("inputs of port 0: %+v", in)
	}
	if out := topology.Outputs(0); len(out) != 2 || out[0].To != 1 || out[1].To != 2 {
		t.Errorf("outputs of vertex 0: %+v", out)
	}
	if topology.Edges[0].Reaches(0, 1) || !topology.Edges[1].Reaches(0, 1) {
		t.Error("forward reaches its own number only")
	}
	g.Vertices[1].Parallelism = 3
	if _, err := NewTopology(g); err == nil {
		t.Error("forward from 2 to 3 subtasks is no error")
	}
	g.Vertices[1].Inputs[0].FromVertex = "z"
	if _, err := NewTopology(g); err == nil {
		t.Error("an unknown vertex is no error")
	}
}
