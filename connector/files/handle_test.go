package files

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() *handle {
	return &handle{
		lineage: "first", sink: "to-out", epoch: 3, subtask: 2, number: 700,
		parts: []staged{{"2-abcdef-1", "day=1/part-x.csv", 1 << 40}, {"2-abcdef-2", "part-y.csv", 0}},
	}
}

func TestHandlesReadBack(t *testing.T) {
	h, err := decodeHandle(sample().encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), h, cmp.AllowUnexported(handle{}, staged{})); diff != "" {
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
