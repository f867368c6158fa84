package codec

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type accountV1 struct {
	ID      uint32
	Name    string
	Balance float32
	Gone    map[string][]struct{ X *int16 }
	Cities  []struct {
		Name string
		Pop  int32
		Old  [2]string
	}
	Level int8
}

type accountV2 struct {
	Level   int64  // moved and wider
	Owner   string `millrace:"Name"` // renamed
	Added   []string
	ID      uint64
	Balance float64
	Cities  []struct {
		Pop   int64
		Name  string
		Area  float64
		Label string
	}
}

func TestReadingAnOlderVersion(t *testing.T) {
	x := int16(3)
	old := []accountV1{
		{ID: 1, Name: "a", Balance: 1.5, Level: -4, Gone: map[string][]struct{ X *int16 }{"k": {{&x}, {}}}},
		{ID: 1 << 31, Name: "b", Cities: []struct {
			Name string
			Pop  int32
			Old  [2]string
		}{{"x", -9, [2]string{"p", "q"}}, {"y", 10, [2]string{}}}},
	}
	c := derive[accountV1](t)
	b := c.AppendAll(nil, old)
	read, err := DecoderFor[accountV2](c.Schema())
	if err != nil {
		t.Fatal(err)
	}
	got := make([]accountV2, 2)
	got[0].Added = []string{"rubbish"}
	for i := range got {
		if b, err = read(b, &got[i]); err != nil {
			t.Fatal(err)
		}
	}
	if len(b) != 0 {
		t.Fatalf("%d bytes left", len(b))
	}
	want := []accountV2{{Level: -4, Owner: "a", ID: 1, Balance: 1.5}, {Owner: "b", ID: 1 << 31}}
	want[1].Cities = append(want[1].Cities, struct {
		Pop   int64
		Name  string
		Area  float64
		Label string
	}{Pop: -9, Name: "x"}, struct {
		Pop   int64
		Name  string
		Area  float64
		Label string
	}{Pop: 10, Name: "y"})
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if err := Compatible(c.Schema(), derive[accountV2](t).Schema()); err != nil {
		t.Fatal(err)
	}
}

func TestEveryWidening(t *testing.T) {
	widen(t, int8(-3), int16(-3))
	widen(t, int8(-3), int32(-3))
	widen(t, int16(-3), int64(-3))
	widen(t, int32(-3), int64(-3))
	widen(t, uint8(200), uint16(200))
	widen(t, uint8(200), int16(200))
	widen(t, uint16(60000), int32(60000))
	widen(t, uint32(1<<31), int64(1<<31))
	widen(t, uint32(1<<31), uint64(1<<31))
	widen(t, float32(1.5), 1.5)
}

func widen[A, B comparable](t *testing.T, from A, want B) {
	t.Helper()
	c := derive[A](t)
	read, err := DecoderFor[B](c.Schema())
	if err != nil {
		t.Error(err)
		return
	}
	var got B
	if rest, err := read(c.Append(nil, &from), &got); err != nil || got != want || len(rest) != 0 {
		t.Errorf("%T %v read as %T %v (%v)", from, from, got, got, err)
	}
}

func TestChangesThatStateCannotFollow(t *testing.T) {
	for _, c := range []struct{ old, new, path string }{
		{"int64", "int32", "value"},
		{"int8", "uint16", "value"},
		{"uint64", "int64", "value"},
		{"int32", "float64", "value"},
		{"string", "bytes", "value"},
		{"{A {B []string}}", "{A {B []int64}}", "value.A.B[]"},
		{"[3]int8", "[4]int8", "value"},
		{"map[int64]string", "map[int32]string", "value[key]"},
		{"proto(a)", "proto(b)", "value"},
		{"*int64", "int64", "value"},
	} {
		err := Compatible(c.old, c.new)
		var bad *IncompatibleError
		if !errors.As(err, &bad) || bad.Path != c.path {
			t.Errorf("%s to %s: %v, want an error at %s", c.old, c.new, err, c.path)
		}
	}
	if err := Compatible("{A", "int64"); err == nil {
		t.Error("half a schema was read")
	}
}
