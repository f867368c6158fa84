package exchange

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/runtime/batch"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// wantError checks that an error has each of the parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func TestTypeOfRefusesWhatCannotTravel(t *testing.T) {
	_, err := TypeOf[struct{ F func() }]()
	wantError(t, err, "record type", "F")
	typ := typeOf[small](t)
	if !strings.HasSuffix(typ.Name(), "exchange.small") || typ.Schema() == "" {
		t.Fatalf("name %q, schema %q", typ.Name(), typ.Schema())
	}
}

func TestConnectPassesBatchesOn(t *testing.T) {
	from := &sendingOperator[small]{}
	var got *batch.Batch[small]
	to := &takingOperator[small]{take: func(b *batch.Batch[small]) error { got = b; return nil }}
	if err := typeOf[small](t).Connect(Out{Operator: from, Name: "a"}, In{Operator: to, Name: "b"}); err != nil {
		t.Fatal(err)
	}
	b := &batch.Batch[small]{}
	if err := from.out.Push(b); err != nil || got != b {
		t.Fatalf("pushed %p, received %p, %v", b, got, err)
	}
}

func TestWrongTypesNameBothOperators(t *testing.T) {
	typ := typeOf[small](t)
	good, bad := Out{Operator: &sendingOperator[small]{}, Name: "parse"}, Out{Operator: &sendingOperator[text]{}, Name: "parse"}
	taker, stranger := In{Operator: &takingOperator[small]{}, Name: "count"}, In{Operator: &takingOperator[text]{}, Name: "count"}
	for name, c := range map[string]struct {
		from Out
		to   In
		want string
	}{
		"output of another type": {bad, taker, "small"},
		"input of another type":  {good, stranger, "small"},
		"no such output":         {Out{Operator: good.Operator, Name: "parse", Tag: "late"}, taker, `"late"`},
		"no such input":          {good, In{Operator: taker.Operator, Name: "count", Port: 3}, "no input 3"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, typ.Connect(c.from, c.to), "parse", "count", c.want)
			wantError(t, typ.Check(c.from, c.to), "parse", "count", c.want)
		})
	}
	if err := typ.Check(good, taker); err != nil {
		t.Fatal(err)
	}
}

func TestCheckKey(t *testing.T) {
	typ := typeOf[small](t)
	if err := typ.CheckKey("parse", "count", hashSmall); err != nil {
		t.Fatal(err)
	}
	wantError(t, typ.CheckKey("parse", "count", nil), "parse", "count", "key function")
	wantError(t, typ.CheckKey("parse", "count", func(*batch.Batch[text]) {}), "parse", "count", "small")
}

func TestNewGateAndNewWriterRefuseWrongTypes(t *testing.T) {
	l := layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 1}
	n, err := NewNetwork(Config{Graph: edgeGraph(l), Workers: []*pb.WorkerAddress{{}}, SlotWorker: []uint32{0}})
	if err != nil {
		t.Fatal(err)
	}
	typ := typeOf[small](t)
	_, err = typ.NewGate(n, GateConfig{Vertex: 1, To: In{Operator: &takingOperator[text]{}, Name: "count"}})
	wantError(t, err, "count", "small")
	_, err = typ.NewGate(n, GateConfig{Vertex: 0, To: In{Operator: &takingOperator[small]{}, Name: "count"}})
	wantError(t, err, "count", "no edge")
	_, err = typ.NewWriter(n, WriterConfig{From: Out{Operator: &sendingOperator[text]{}, Name: "parse"}, To: "count", Key: hashSmall})
	wantError(t, err, "parse", "count", "small")
	_, err = typ.NewWriter(n, WriterConfig{From: Out{Operator: &sendingOperator[small]{}, Name: "parse"}, To: "count"})
	wantError(t, err, "parse", "count", "key function")

	// Each end is right by itself, the two are of different types.
	if _, err = typ.NewWriter(n, WriterConfig{From: Out{Operator: &sendingOperator[small]{}, Name: "parse"}, To: "count", Key: hashSmall}); err != nil {
		t.Fatal(err)
	}
	if _, err = typeOf[text](t).NewGate(n, GateConfig{Vertex: 1, To: In{Operator: &takingOperator[text]{}, Name: "count"}}); err != nil {
		t.Fatal(err)
	}
	wantError(t, n.Run(t.Context()), "parse", "count", "one record type")
}
