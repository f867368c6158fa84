package block

import (
	"bytes"
	"testing"

	"github.com/millrace/millrace/stream"
)

func sample() Block {
	var b Builder
	for _, s := range []string{"", "a", string(make([]byte, 300))} {
		b.Add("k"+s, stream.HashOf("k"+s), []byte(s))
	}
	return b.Finish()
}

func TestRecordsComeBackNumbered(t *testing.T) {
	b := sample()
	if err := b.Assign(stream.NewSequence(1, 2, 10), 99); err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	place := uint64(10)
	it := b.Records()
	for r := (Record{}); it.Next(&r); place++ {
		if r.Sequence != stream.NewSequence(1, 2, place) || r.Arrival != 99 || !bytes.Equal(r.Key[1:], r.Data) || r.Hash != stream.HashOf(string(r.Key)) {
			t.Errorf("record %d is %v", place, r)
		}
	}
	if it.Err() != nil || place != 13 {
		t.Errorf("%d records, %v", place-10, it.Err())
	}
}

func TestPartsKeepOrderAndBounds(t *testing.T) {
	b := sample()
	it := b.Records()
	if err := Skip(&it, 1); err != nil {
		t.Fatal(err)
	}
	var out Builder
	// The first record is taken whatever the bound, the second no more.
	if n, err := out.AddPart(&it, 9, 1); n != 1 || err != nil {
		t.Errorf("took %d, %v", n, err)
	}
	if n, err := out.AddPart(&it, 9, 1<<20); n != 1 || err != nil {
		t.Errorf("took %d, %v", n, err)
	}
	got := out.Finish()
	if err := got.Verify(); err != nil || got.Count() != 2 || it.Left() != 0 {
		t.Errorf("%d records, %d left, %v", got.Count(), it.Left(), err)
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	b := sample()
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1 << (i % 8)
		if Block(damaged).Verify() == nil {
			t.Errorf("byte %d was changed unnoticed", i)
		}
		if b[:i].Verify() == nil && i > 0 {
			t.Errorf("a block cut off at %d was taken", i)
		}
	}
}

// FuzzBlock proves that foreign bytes never panic, whatever their checksum.
func FuzzBlock(f *testing.F) {
	f.Add([]byte(sample()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		it := Block(b).Records()
		for r := (Record{}); it.Next(&r); {
		}
		checked := Block(b).Check()
		if len(b) < HeaderBytes {
			return
		}
		if err := Block(bytes.Clone(b)).Assign(stream.NewSequence(1, 1, 1), 1); (err == nil) != (checked == nil) {
			t.Errorf("Check says %v, Assign %v", checked, err)
		}
	})
}

func BenchmarkIterate(b *testing.B) {
	var build Builder
	for range 500 {
		build.Add("key", stream.HashKey{}, make([]byte, 100))
	}
	blk := build.Finish()
	b.ReportAllocs()
	for b.Loop() {
		it := blk.Records()
		for r := (Record{}); it.Next(&r); {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/record")
}
