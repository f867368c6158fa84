package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func plan(name string) *pb.WorkerFrame {
	return &pb.WorkerFrame{Body: &pb.WorkerFrame_PlanResult{PlanResult: &pb.PlanResult{Graph: &pb.JobGraph{Name: name}}}}
}

func TestFramesArriveInOrderAndWhole(t *testing.T) {
	var stream bytes.Buffer
	w := NewWriter(&stream)
	sent := []*pb.WorkerFrame{plan("a"), {}, plan(strings.Repeat("long ", keep)), plan("b")}
	for _, m := range sent {
		if err := w.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&stream)
	for i, want := range sent {
		got := plan("left over")
		if err := r.Read(got); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("frame %d (-want +got):\n%s", i, diff)
		}
	}
	if err := r.Read(&pb.WorkerFrame{}); err != io.EOF {
		t.Fatalf("after the last frame: %v, want EOF", err)
	}
}

func TestConcurrentWritersDoNotMix(t *testing.T) {
	a, b := net.Pipe()
	w := NewWriter(a)
	var wg sync.WaitGroup
	const writers, each = 8, 50
	for i := range writers {
		wg.Go(func() {
			for range each {
				if err := w.Write(plan(strings.Repeat(string(rune('a'+i)), 100))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	r := NewReader(b)
	got := map[byte]int{}
	for range writers * each {
		var m pb.WorkerFrame
		if err := r.Read(&m); err != nil {
			t.Fatal(err)
		}
		name := m.GetPlanResult().GetGraph().GetName()
		if len(name) != 100 || strings.Trim(name, name[:1]) != "" {
			t.Fatalf("mixed frame %q", name)
		}
		got[name[0]]++
	}
	wg.Wait()
	for c, n := range got {
		if n != each {
			t.Errorf("writer %c: %d frames, want %d", c, n, each)
		}
	}
}

func TestBrokenStreams(t *testing.T) {
	whole, err := proto.Marshal(plan("x"))
	if err != nil {
		t.Fatal(err)
	}
	framed := func(n int, body []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(n)), body...)
	}
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a length", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"no body", framed(len(whole), nil), io.ErrUnexpectedEOF},
		{"half a body", framed(len(whole), whole[:len(whole)/2]), io.ErrUnexpectedEOF},
		{"too long", framed(Max+1, whole), ErrTooLong},
		{"long and cut", framed(Max, whole), io.ErrUnexpectedEOF},
	} {
		if err := NewReader(bytes.NewReader(c.in)).Read(&pb.WorkerFrame{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := NewReader(bytes.NewReader(framed(1, []byte{0xff}))).Read(&pb.WorkerFrame{}); err == nil {
		t.Error("garbage was read as a message")
	}
	long := plan(strings.Repeat("x", Max))
	if err := NewWriter(io.Discard).Write(long); !errors.Is(err, ErrTooLong) {
		t.Errorf("write too long: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 2, 10, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		for r.Read(&pb.WorkerFrame{}) == nil {
		}
	})
}
