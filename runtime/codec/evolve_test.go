package codec

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/checkpoint/schema"
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
	if err := schema.Compatible(c.Schema(), derive[accountV2](t).Schema()); err != nil {
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

// A field that says what it was called takes the old one's value, once: a field
// that has the old name now has it for itself.
func TestRenamedFields(t *testing.T) {
	type v1 struct {
		Name  string
		Count int32
	}
	type v2 struct {
		Total int64  `millrace:"total,was=sum,was=Count"`
		Owner string `millrace:",was=Name"`
	}
	type v3 struct {
		Total int64 `millrace:"total"`
		Name  string
		Owner string `millrace:",was=Name2"`
	}
	old := v1{"a", -7}
	b := derive[v1](t).Append(nil, &old)
	read, err := DecoderFor[v2](derive[v1](t).Schema())
	if err != nil {
		t.Fatal(err)
	}
	var got v2
	if _, err := read(b, &got); err != nil || got != (v2{-7, "a"}) {
		t.Errorf("read as %+v (%v)", got, err)
	}
	if s := derive[v2](t).Schema(); s != "{total(sum,Count) int64,Owner(Name) string}" {
		t.Errorf("schema %s", s)
	}
	b = derive[v2](t).Append(nil, &got)
	next, err := DecoderFor[v3](derive[v2](t).Schema())
	if err != nil {
		t.Fatal(err)
	}
	var last v3
	if _, err := next(b, &last); err != nil || last != (v3{Total: -7, Owner: "a"}) {
		t.Errorf("read as %+v (%v)", last, err)
	}
}

func TestTagsThatAreRefused(t *testing.T) {
	badTag[struct {
		A int `millrace:"a,was"`
	}](t, "no option")
	badTag[struct {
		A int `millrace:"a,was="`
	}](t, "no spaces")
	badTag[struct {
		A int `millrace:"a,old=b"`
	}](t, "no option")
	badTag[struct {
		A int `millrace:"a,was=B"`
		B int
	}](t, "another field")
	badTag[struct {
		A int `millrace:"a,was=c"`
		B int `millrace:"b,was=c"`
	}](t, "another field")
}

func badTag[T any](t *testing.T, want string) {
	t.Helper()
	_, err := Derive[T]()
	var bad *UnsupportedError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
		t.Errorf("%T: %v, want an error that says %q", *new(T), err, want)
	}
}

func TestDecoderForRefusesWhatStateCannotFollow(t *testing.T) {
	var bad *IncompatibleError
	if _, err := DecoderFor[struct{ A int32 }]("{A int64}"); !errors.As(err, &bad) || bad.Path != "value.A" {
		t.Errorf("narrowed: %v", err)
	}
	if _, err := DecoderFor[int64]("{A"); err == nil {
		t.Error("half a schema was read")
	}
}
