package exchange

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
)

// TestFrameBytes holds the bytes of docs/protocols.md, section 5.
func TestFrameBytes(t *testing.T) {
	c, err := codec.Derive[uint16]()
	if err != nil {
		t.Fatal(err)
	}
	b := &batch.Batch[uint16]{Values: []uint16{0x0201, 0x0403}, Times: []int64{1, -1}, Hashes: []uint64{5, 6}}
	data, err := endFrame(appendBatch(beginFrame(nil, frameBatch, 0x01020304), columnsOf(b), true, typed[uint16]{c}))
	if err != nil {
		t.Fatal(err)
	}
	ones := bytes.Repeat([]byte{255}, 8)
	for name, f := range map[string]struct{ got, want []byte }{
		"batch": {data, slices.Concat([]byte{45, 0, 0, 0, 1, 4, 3, 2, 1, 2, 0, 0, 0},
			[]byte{1, 0, 0, 0, 0, 0, 0, 0}, ones, []byte{5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0}, []byte{1, 2, 3, 4})},
		"watermark": {appendEvent(nil, 9, Watermark, -1, barrier.Barrier{}), slices.Concat([]byte{13, 0, 0, 0, 2, 9, 0, 0, 0}, ones)},
		"barrier": {appendEvent(nil, 9, Barrier, 0, barrier.Barrier{ID: 7, TriggeredMillis: 8, Savepoint: true, Terminal: true}),
			[]byte{22, 0, 0, 0, 3, 9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 3}},
		"halt": {appendEvent(nil, 9, Barrier, 0, barrier.Barrier{ID: 7, TriggeredMillis: 8, Halt: true}),
			[]byte{22, 0, 0, 0, 3, 9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 4}},
		"idle":   {appendEvent(nil, 9, Idle, 0, barrier.Barrier{}), []byte{5, 0, 0, 0, 4, 9, 0, 0, 0}},
		"active": {appendEvent(nil, 9, Active, 0, barrier.Barrier{}), []byte{5, 0, 0, 0, 5, 9, 0, 0, 0}},
		"credit": {appendCredit(nil, 9, 513, 1<<16), []byte{13, 0, 0, 0, 6, 9, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0}},
		"error":  {(&RefusedError{Code: "ab", Message: "cd"}).appendFrame(nil), []byte{11, 0, 0, 0, 7, 0, 0, 0, 0, 2, 0, 'a', 'b', 'c', 'd'}},
		"preface": {(&preface{job: "j", epoch: 1, sender: 2, receiver: 3, token: "t"}).append(nil), slices.Concat([]byte("MRDP"),
			[]byte{1, 0, 22, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 'j', 1, 0, 't'})},
	} {
		if !bytes.Equal(f.got, f.want) {
			t.Errorf("%s:\n got %v\nwant %v", name, f.got, f.want)
		}
	}
}

func TestBatchComesBackEqual(t *testing.T) {
	c, err := codec.Derive[text]()
	if err != nil {
		t.Fatal(err)
	}
	k := typed[text]{c}
	for _, hashed := range []bool{false, true} {
		for _, rows := range []int{0, 1, batch.Rows} {
			var in, out batch.Batch[text]
			out.AppendKeyed(text{1, "left over"}, 1, 1)
			for i := range rows {
				in.AppendOp(batch.Op(i/9%2), text{uint64(i), string(make([]byte, i%40))}, int64(i)-3)
				if hashed {
					in.Hashes = append(in.Hashes, uint64(i)*77)
				}
			}
			if err := decodeBatch(appendBatch(nil, columnsOf(&in), hashed, k), columnsOf(&out), hashed, k.decode); err != nil {
				t.Fatal(err)
			}
			if in.Len() != out.Len() || in.Len() > 0 && cmp.Diff(in.Values, out.Values) != "" || !slices.Equal(in.Times, out.Times) || !slices.Equal(in.Hashes, out.Hashes) || !slices.Equal(in.Ops, out.Ops) {
				t.Fatalf("hashed %v, %d rows: %d rows came back, or others", hashed, rows, out.Len())
			}
		}
	}
}

func TestCorruptBatchesAreErrors(t *testing.T) {
	c, err := codec.Derive[uint16]()
	if err != nil {
		t.Fatal(err)
	}
	k := typed[uint16]{c}
	good := appendBatch(nil, columnsOf(&batch.Batch[uint16]{Values: []uint16{1}, Times: []int64{2}, Hashes: []uint64{3}}), true, k)
	for name, body := range map[string][]byte{
		"no count":       good[:3],
		"no times":       good[:8],
		"no hashes":      good[:14],
		"no values":      good[:21],
		"no operations":  append([]byte{1, 0, 0, 128}, good[4:20]...),
		"more":           append(bytes.Clone(good), 0),
		"too many rows":  append([]byte{1, 2, 0, 0}, make([]byte, 1<<16)...),
		"rows past 4 GB": append([]byte{255, 255, 255, 255}, good[4:]...),
	} {
		var b batch.Batch[uint16]
		if err := decodeBatch(body, columnsOf(&b), true, k.decode); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTooLargeFrameIsRefused(t *testing.T) {
	if _, err := endFrame(make([]byte, maxFrame+5)); err == nil {
		t.Fatal("a frame over the limit is no error")
	}
}

func FuzzDecodeBatch(f *testing.F) {
	c, err := codec.Derive[text]()
	if err != nil {
		f.Fatal(err)
	}
	k := typed[text]{c}
	f.Add(appendBatch(nil, columnsOf(&batch.Batch[text]{Values: []text{{1, "a"}, {2, "bc"}}, Times: []int64{1, 2}, Hashes: []uint64{3, 4}}), true, k), true)
	f.Add([]byte{255, 255, 255, 255}, false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, body []byte, hashed bool) {
		var b batch.Batch[text]
		if err := decodeBatch(body, columnsOf(&b), hashed, k.decode); err != nil {
			if !errors.Is(err, errCorrupt) {
				t.Fatalf("%v is not errCorrupt", err)
			}
			return
		}
		if again := appendBatch(nil, columnsOf(&b), hashed, k); len(b.Times) != b.Len() || hashed && len(b.Hashes) != b.Len() || len(again) > len(body) {
			t.Fatalf("%d rows with %d times and %d hashes; %d bytes of %d", b.Len(), len(b.Times), len(b.Hashes), len(again), len(body))
		}
	})
}

// FuzzStream feeds bytes to everything that parses a connection.
func FuzzStream(f *testing.F) {
	p := red(3)
	f.Add(p.append(nil))
	f.Add(appendEvent(nil, 1, Barrier, 0, barrier.Barrier{ID: 1}))
	f.Add((&RefusedError{Code: "a", Message: "b"}).appendFrame(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if p, err := readPreface(bytes.NewReader(in)); err == nil && !bytes.HasPrefix(in, p.append(nil)) {
			t.Fatalf("preface %+v is not what was read", p)
		}
		r := bytes.NewReader(in)
		fr := frameReader{r: r}
		for {
			kind, _, size, err := fr.next()
			if err != nil {
				return
			}
			if size > r.Len() {
				return
			}
			body := make([]byte, size)
			_, _ = r.Read(body)
			_, _, _, _ = decodeEvent(kind, body)
			_ = decodeRefusal(body)
		}
	})
}
