package schema

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzParse(f *testing.F) {
	f.Add("{A [3]map[string]*{B time},C(D,E) proto(x)}")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err == nil {
			if again, err := Parse(n.String()); err != nil || again.String() != n.String() {
				t.Fatalf("%q read as %q, read as %v: %v", s, n, again, err)
			}
		}
	})
}

func TestWhatIsNoSchema(t *testing.T) {
	for _, s := range []string{"", "int", "{A int64", "{A}", "{ int64}", "[x]int8", "map[string", "proto(", "{A( int8}", "{A() int8}", "{A(b)c int8}", "int8 ", strings.Repeat("*", 200) + "int8"} {
		if n, err := Parse(s); err == nil {
			t.Errorf("%q was read as %s", s, n)
		}
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		old, new string
		want     []string
	}{
		{"int64", "int64", nil},
		{"{A int8}", "{A int8,B string}", []string{"value.B added: string"}},
		{"{A int8,B string}", "{A int8}", []string{"value.B removed: string"}},
		{"{A int8}", "{B(A) int16}", []string{"value.B renamed, was A", "value.B widened: int8 to int16"}},
		{"{A int8,B bool}", "{B bool,A int8}", []string{"value: fields in another order"}},
		{"[]{A int8}", "[]{A string}", []string{"value[].A was int8 and is string"}},
		{"map[int8]*float32", "map[int64]*float64", []string{"value[key] widened: int8 to int64", "value[] widened: float32 to float64"}},
		{"{A int64,B {C string}}", "{A int32,B {C bytes}}", []string{"value.A was int64 and is int32", "value.B.C was string and is bytes"}},
		// Only one field can take the value: the one that has the name.
		{"{A int8}", "{B(A) int8,A int8}", []string{"value.B added: int8"}},
		// A(B) is what it is called now, whatever came before.
		{"{A int8,B int8}", "{A(B) int8}", []string{"value.B removed: int8"}},
	} {
		changes, err := Diff(c.old, c.new)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range changes {
			got = append(got, x.String())
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s to %s: %s", c.old, c.new, d)
		}
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
		{"binary(a.A)", "binary(a.B)", "value"},
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

func TestKeysOnlyWiden(t *testing.T) {
	for _, c := range []struct {
		old, new string
		ok       bool
	}{
		{"int32", "int64", true},
		{"{A uint8,B string}", "{A int64,B string}", true},
		{"{A uint8,B string}", "{C(A) int64,B string}", true},
		{"{A uint8,B string}", "{B string,A uint8}", false},
		{"{A uint8}", "{A uint8,B string}", false},
		{"{A uint8,B string}", "{A uint8}", false},
		{"[2]{A int8,B int8}", "[2]{B int8,A int8}", false},
		{"int64", "int32", false},
		{"string", "int64", false},
	} {
		if err := CompatibleKey(c.old, c.new); (err == nil) != c.ok {
			t.Errorf("key %s to %s: %v, want ok = %v", c.old, c.new, err, c.ok)
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJSON(t *testing.T) {
	for _, c := range []struct{ schema, hex, want string }{
		{"bool", "01", "true"},
		{"int8", "ff", "-1"},
		{"uint8", "ff", "255"},
		{"int16", "feff", "-2"},
		{"uint32", "ffffffff", "4294967295"},
		{"int64", "ffffffffffffff7f", "9223372036854775807"},
		{"uint64", "ffffffffffffffff", "18446744073709551615"},
		{"float32", "0000c03f", "1.5"},
		{"float64", "000000000000f87f", `"NaN"`},
		{"float64", "000000000000f0ff", `"-Inf"`},
		{"string", "03612262", `"a\"b"`},
		{"string", "0161", `"a"`},
		{"bytes", "00", "null"},
		{"bytes", "030a01", `"0x0a01"`},
		{"time", "0000000000000000 40420f00", `"1970-01-01T00:00:00.001Z"`},
		{"[]int8", "00", "null"},
		{"[]int8", "01", "[]"},
		{"[]int8", "030102", "[1,2]"},
		{"[2]string", "0161 00", `["a",""]`},
		{"[3]{}", "", "[]"},
		{"map[string]int8", "03 0161 01 0162 02", `{"a":1,"b":2}`},
		{"map[int8]bool", "02 ff 01", `{"-1":true}`},
		{"map[{A int8}]string", "02 05 0161", `[{"key":{"A":5},"value":"a"}]`},
		{"map[string]int8", "00", "null"},
		{"*int8", "00", "null"},
		{"*int8", "0107", "7"},
		{"{A int8,B(C) {D string}}", "01 0161", `{"A":1,"B":{"D":"a"}}`},
		{"{}", "", "{}"},
		{"proto(x.Y)", "030801", `"0x0801"`},
		{"proto(x.Y)", "00", "null"},
		{"binary(net/netip.Addr)", "04 7f000001", `"0x7f000001"`},
	} {
		n, err := Parse(c.schema)
		if err != nil {
			t.Fatal(err)
		}
		b := unhex(t, c.hex)
		got, rest, err := n.AppendJSON(nil, append(b, 0xee))
		if err != nil || string(got) != c.want || len(rest) != 1 {
			t.Errorf("%s of %s: %s, %d bytes left, %v; want %s", c.hex, c.schema, got, len(rest), err, c.want)
		}
		if !json.Valid(got) {
			t.Errorf("%s of %s is no JSON: %s", c.hex, c.schema, got)
		}
		for i := range b {
			if _, _, err := n.AppendJSON(nil, b[:i]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d bytes of %s: %v", i, c.schema, err)
			}
		}
	}
}

func TestBytesThatAreNoValue(t *testing.T) {
	for _, c := range []struct{ schema, hex string }{
		{"bool", "02"}, {"*int8", "02"}, {"string", "ff01"}, {"[]int64", "ffffffffffffffff7f"},
		{"time", "0000000000000000 00ca9a3b"}, {"[]{}", "ffffffff0f"}, {"map[int8]int8", "0301"},
		{"[1000000000]{A [1000000000]{B [1000000000]int64}}", "00"},
	} {
		n, err := Parse(c.schema)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Pass(unhex(t, c.hex)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s of %s: %v", c.hex, c.schema, err)
		}
	}
}

// What Pass takes in, AppendJSON prints, and the reverse.
func FuzzValue(f *testing.F) {
	f.Add("{A [2]map[string]*{B time},C []bool,D bytes}", []byte{1, 0, 3, 1, 1, 2, 1})
	f.Add("map[[2]int8][]float64", []byte{2, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		n, err := Parse(text)
		if err != nil || len(text) > 200 {
			return
		}
		passed, err := n.Pass(b)
		printed, rest, printErr := n.AppendJSON(nil, b)
		if (err == nil) != (printErr == nil) || len(passed) != len(rest) {
			t.Fatalf("%s: passed with %v and %d bytes left, printed with %v and %d", text, err, len(passed), printErr, len(rest))
		}
		if err == nil && !json.Valid(printed) {
			t.Fatalf("%s: %s is no JSON", text, printed)
		}
	})
}

// The vectors of docs/formats/keyhash.md, from the bytes of the codec.
func TestHash(t *testing.T) {
	for _, c := range []struct {
		schema, hex, hash string
		group             int
	}{
		{"uint64", "0000000000000000", "34c96acdcadb1bbb", 211},
		{"uint8", "00", "34c96acdcadb1bbb", 211},
		{"int32", "ffffffff", "85d136adb773c6c9", 535},
		{"int8", "ff", "85d136adb773c6c9", 535},
		{"bool", "01", "8a4127811b21e730", 553},
		{"float64", "000000000000f83f", "49f7b96b6b5ccaf9", 295},
		{"float32", "0000c03f", "49f7b96b6b5ccaf9", 295},
		{"string", "00", "ef46db3751d8e999", 957},
		{"string", "03445457", "3b02e8ca6db38ecf", 236},
		{"{Origin string,Day int32}", "03445457 3b2c0000", "90366fb4266682de", 576},
		{"[2]string", "0161 026263", "a2ab91898938d5fd", 650},
	} {
		n, err := Parse(c.schema)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := NewHasher(n).Hash(unhex(t, c.hex))
		if got := fmt.Sprintf("%016x", hash); err != nil || got != c.hash || GroupOf(hash, 1024) != c.group {
			t.Errorf("%s of %s: hash %s, group %d, %v; want %s, %d", c.hex, c.schema, got, GroupOf(hash, 1024), err, c.hash, c.group)
		}
	}
	for text, want := range map[string]bool{"{A int8,B [2]string}": true, "bytes": false, "{A binary(x.Y)}": false, "time": false, "[1]*int8": false} {
		if n, err := Parse(text); err != nil || n.Hashable() != want {
			t.Errorf("%s hashable: want %v (%v)", text, want, err)
		}
	}
}
