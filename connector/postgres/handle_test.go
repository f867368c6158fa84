package postgres

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func sample() *handle {
	return &handle{
		lineage: "first", sink: "to-out", epoch: 3, subtask: 2, number: 700, writer: 1<<63 - 1, rows: 12,
		to: target{schema: "millrace", table: "public.t", columns: []string{"a", "b"}, keys: []string{"a"}},
	}
}

func TestHandlesReadBack(t *testing.T) {
	h, err := decodeHandle(sample().encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), h, cmp.AllowUnexported(handle{}, target{})); diff != "" {
		t.Error(diff)
	}
	whole := sample().encode()
	for n := range len(whole) {
		if _, err := decodeHandle(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes are a handle", n, len(whole))
		}
	}
	if _, err := decodeHandle(append(whole, 0)); err == nil {
		t.Error("a byte too many was passed over")
	}
}

func FuzzDecodeHandle(f *testing.F) {
	f.Add(sample().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHandle(b)
		if err != nil {
			return
		}
		again, err := decodeHandle(h.encode())
		if err != nil || !bytes.Equal(again.encode(), h.encode()) {
			t.Errorf("%x does not read back: %v", b, err)
		}
	})
}

// FuzzEscape: what is escaped stays one column of one line, and reads back.
func FuzzEscape(f *testing.F) {
	for _, text := range []string{"", "plain", "a\tb\nc\rd\\e", "\\N", "\\.", "\t", "\\\\"} {
		f.Add(text)
	}
	codec := codecOf(reflect.TypeFor[item]())
	f.Fuzz(func(t *testing.T, text string) {
		v := item{1, text}
		line, err := codec.append(nil, unsafe.Pointer(&v))
		if err != nil {
			t.Fatal(err)
		}
		cells := strings.Split(string(line), "\t")
		if len(cells) != 3 || strings.ContainsAny(cells[2], "\n\r") {
			t.Fatalf("%q has become %q", text, line)
		}
		got := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r").Replace(cells[2])
		if got != text {
			t.Errorf("%q has become %q, which reads %q", text, cells[2], got)
		}
	})
}
