package inflight

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/checkpoint/schema"
)

const groups = 128

// batchOf is an entry of records "a" and "b", on their way to the owner of hash.
func batchOf(hash uint64, flags Flags) []byte {
	r := Records{Flags: flags, Parallelism: 4, Schema: "{Name string,N int32}"}
	r.Subtask = uint64(schema.GroupOf(hash, groups)) * 4 / groups
	b := binary.LittleEndian.AppendUint32(r.AppendHeader(nil), 2)
	for range 2 {
		b = binary.LittleEndian.AppendUint64(b, 1000)
	}
	if flags&Hashed != 0 {
		for range 2 {
			b = binary.LittleEndian.AppendUint64(b, hash)
		}
	}
	if flags&Updates != 0 {
		b[len(r.AppendHeader(nil))+3] |= 128
		b = append(b, 2) // the second is a delete
	}
	return append(b, 1, 'a', 7, 0, 0, 0, 1, 'b', 8, 0, 0, 0)
}

func checked(b []byte) (int, error) {
	r, err := Parse(b)
	if err != nil {
		return 0, err
	}
	return r.Check(groups)
}

func TestRecordsAreReadByTheirSchema(t *testing.T) {
	for _, flags := range []Flags{0, Hashed, Broadcast, Updates, Updates | Hashed} {
		whole := batchOf(1<<63, flags)
		if n, err := checked(whole); err != nil || n != 2 {
			t.Fatalf("flags %d: %d records, %v", flags, n, err)
		}
		for cut := range whole {
			if _, err := checked(whole[:cut]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("flags %d: %d of %d bytes: %v", flags, cut, len(whole), err)
			}
		}
		if _, err := checked(append(bytes.Clone(whole), 0)); err == nil || !strings.Contains(err.Error(), "1 bytes follow") {
			t.Errorf("flags %d: a byte more: %v", flags, err)
		}
	}
	stray := batchOf(1<<63, Updates)
	stray[1] = 0 // flags
	if _, err := checked(stray); err == nil || !strings.Contains(err.Error(), "of no update stream") {
		t.Errorf("operations in records that are none of an update stream: %v", err)
	}
	astray := batchOf(1<<63, Hashed)
	astray[2] = 0 // the subtask
	if _, err := checked(astray); err == nil || !strings.Contains(err.Error(), "subtask 2's of 4") {
		t.Errorf("records of another's key group: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(batchOf(1, Hashed))
	f.Add(batchOf(1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if again := append(r.AppendHeader(nil), r.Body...); !bytes.Equal(again, b) {
			if p, err := Parse(again); err != nil || p.Schema != r.Schema || p.Subtask != r.Subtask || !bytes.Equal(p.Body, r.Body) {
				t.Fatalf("%x became %x: %v", b, again, err)
			}
		}
		if n, err := r.Check(groups); err == nil && n > maxRows {
			t.Fatalf("%d rows", n)
		}
	})
}
