package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/checkpoint/schema"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

type point struct {
	X, Y int64
	Hot  bool
	_    [3]byte
	Z    float32
}

type line struct {
	SKU   string
	Count uint16
	Tags  []string
	Extra *point
	Notes map[string][]int32
}

type order struct {
	ID      uint64 `millrace:"order_id"`
	At      time.Time
	Wait    time.Duration
	Lines   []line
	Matrix  [2][3]float64
	Words   [2]string
	Raw     []byte
	Points  []point
	Flags   [3]bool
	Peer    netip.Addr
	Named   map[int16]point
	Seen    map[string]struct{}
	Next    **int32
	Skipped func() `millrace:"-"`
}

func derive[T any](t testing.TB) Codec[T] {
	t.Helper()
	c, err := Derive[T]()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fill puts random values everywhere, nil and empty among them.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(rng.Int32()), int64(rng.IntN(1e9))).UTC()))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{byte(rng.Uint32())})))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.Uint64()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rng.Uint64())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(rng.NormFloat64())
	case reflect.String:
		v.SetString(strings.Repeat("é", rng.IntN(400)*rng.IntN(2)))
	case reflect.Slice:
		if rng.IntN(4) > 0 {
			v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
			for i := range v.Len() {
				fill(rng, v.Index(i))
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Map:
		if rng.IntN(4) > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range rng.IntN(5) {
				k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(rng, k)
				fill(rng, e)
				v.SetMapIndex(k, e)
			}
		}
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(rng, v.Field(i))
			}
		}
	}
}

func random[T any](rng *rand.Rand) T {
	var v T
	fill(rng, reflect.ValueOf(&v).Elem())
	return v
}

func roundTrip[T any](t *testing.T, rng *rand.Rand) {
	t.Helper()
	c := derive[T](t)
	vs := make([]T, 1+rng.IntN(20))
	var one []byte
	for i := range vs {
		vs[i] = random[T](rng)
		from := len(one)
		one = c.Append(one, &vs[i])
		if f := c.Fixed(); f != 0 && len(one)-from != f {
			t.Fatalf("%T has %d bytes, Fixed is %d", vs[i], len(one)-from, f)
		}
		var back T
		rest, err := c.Decode(append(bytes.Clone(one[from:]), "rest"...), &back)
		if err != nil || string(rest) != "rest" || !reflect.DeepEqual(back, vs[i]) {
			t.Fatalf("%T came back as\n%s\nrest %q, error %v", back, cmp.Diff(vs[i], back, exported), rest, err)
		}
		if again := c.Append(nil, &back); !bytes.Equal(again, one[from:]) {
			t.Fatalf("%T has two encodings:\n%x\n%x", back, one[from:], again)
		}
		clone := c.Clone(&vs[i])
		if !reflect.DeepEqual(clone, vs[i]) {
			t.Fatalf("clone of %T differs:\n%s", clone, cmp.Diff(vs[i], clone, exported))
		}
	}
	all := c.AppendAll(nil, vs)
	if !bytes.Equal(all, one) {
		t.Fatalf("AppendAll of %d %T differs from Append of each", len(vs), vs[0])
	}
	back := make([]T, len(vs))
	rest, err := c.DecodeAll(append(all, "rest"...), back)
	if err != nil || string(rest) != "rest" || !reflect.DeepEqual(back, vs) {
		t.Fatalf("DecodeAll: rest %q, error %v, values differ: %s", rest, err, cmp.Diff(vs, back, exported))
	}
	for cut := range min(len(all), 200) {
		if _, err := c.DecodeAll(all[:cut], back); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes of %T: error %v, want corrupt", cut, len(all), vs[0], err)
		}
	}
}

var exported = cmp.Exporter(func(reflect.Type) bool { return true })

func TestRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		roundTrip[int](t, rng)
		roundTrip[bool](t, rng)
		roundTrip[string](t, rng)
		roundTrip[[]byte](t, rng)
		roundTrip[point](t, rng)
		roundTrip[[]point](t, rng)
		roundTrip[struct{ A, B uint32 }](t, rng)
		roundTrip[line](t, rng)
		roundTrip[order](t, rng)
		roundTrip[*order](t, rng)
		roundTrip[map[point]order](t, rng)
		roundTrip[[][]string](t, rng)
		roundTrip[time.Time](t, rng)
	}
}

func TestTimesKeepTheInstantAndZero(t *testing.T) {
	c := derive[time.Time](t)
	for _, want := range []time.Time{{}, time.Now(), time.Date(9999, 1, 1, 0, 0, 0, 999999999, time.FixedZone("x", 3600))} {
		var got time.Time
		if _, err := c.Decode(c.Append(nil, &want), &got); err != nil || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%v came back as %v (%v)", want, got, err)
		}
	}
}

func TestMessagesAreProtobuf(t *testing.T) {
	type held struct {
		By   *pb.RunRef
		None *pb.RunRef
		All  []*pb.Stream
	}
	c := derive[held](t)
	want := held{By: &pb.RunRef{Object: "o", Offset: 7}, All: []*pb.Stream{{}, {Name: "s"}}}
	var got held
	b := c.Append(nil, &want)
	if _, err := c.Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Fatal(d)
	}
	ref, _ := proto.Marshal(want.By)
	if !bytes.Equal(b[1:1+len(ref)], ref) {
		t.Fatalf("message bytes %x, want %x", b[1:1+len(ref)], ref)
	}
	clone := c.Clone(&want)
	clone.By.Object = "changed"
	if want.By.Object != "o" {
		t.Fatal("a clone shares its message")
	}
	if s := c.Schema(); s != "{By proto(millrace.v1.RunRef),None proto(millrace.v1.RunRef),All []proto(millrace.v1.Stream)}" {
		t.Fatal(s)
	}
}

func TestClonesShareNothing(t *testing.T) {
	seven := int32(7)
	p := &seven
	v := order{
		Lines: []line{{Tags: []string{"a"}, Extra: &point{X: 1}, Notes: map[string][]int32{"n": {1}}}},
		Raw:   []byte("raw"), Points: []point{{X: 1}}, Next: &p,
	}
	c := derive[order](t)
	before := c.Append(nil, &v)
	w := c.Clone(&v)
	w.Lines[0].Tags[0] = "b"
	w.Lines[0].Extra.X = 2
	w.Lines[0].Notes["n"][0] = 2
	w.Lines[0].Notes["m"] = nil
	w.Raw[0] = 'R'
	w.Points[0].X = 2
	**w.Next = 8
	if after := c.Append(nil, &v); !bytes.Equal(before, after) {
		t.Fatal("changing a clone changed the original")
	}
}

func TestDetachedStringsAreAlone(t *testing.T) {
	type row struct {
		A    string
		N    int
		More [3]struct{ B string }
		Tags []string
	}
	c := derive[row](t)
	batch := []byte("abcdefghij")
	str := func(from, to int) string { return unsafe.String(&batch[from], to-from) }
	fill := func(v *row) {
		*v = row{A: str(0, 3), N: 7, Tags: []string{str(9, 10)}}
		v.More[0].B, v.More[1].B, v.More[2].B = str(3, 4), str(4, 4), str(5, 9)
	}
	var old, v row
	fill(&old)
	c.Detach(&old, nil)
	had := c.Texts(nil, &old)
	if want := []string{"abc", "d", "", "fghi"}; !slices.Equal(had, want) {
		t.Fatalf("texts %q, want %q", had, want)
	}
	copy(batch, "ABCDEFGHIJ")
	if got := c.Texts(nil, &old); !slices.Equal(got, had) || old.N != 7 || old.Tags[0] != "J" {
		t.Fatalf("detached, and yet it changed: %+v", old)
	}
	copy(batch, "abcdefghij")
	fill(&v)
	v.A = str(1, 4)
	c.Detach(&v, had)
	if unsafe.StringData(v.More[2].B) != unsafe.StringData(had[3]) {
		t.Error("an equal string was not taken over")
	}
	copy(batch, "ABCDEFGHIJ")
	if got, want := c.Texts(nil, &v), []string{"bcd", "d", "", "fghi"}; !slices.Equal(got, want) {
		t.Fatalf("texts %q, want %q", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { c.Detach(&v, had) }); n != 1 {
		t.Errorf("%v allocations, want 1 for the one string that is new", n)
	}
	if unsafe.StringData(v.More[1].B) != nil {
		t.Error("an empty string keeps memory")
	}
}

func TestSchemas(t *testing.T) {
	for got, want := range map[string]string{
		derive[int](t).Schema():           "int64",
		derive[time.Duration](t).Schema(): "int64",
		derive[point](t).Schema():         "{X int64,Y int64,Hot bool,Z float32}",
		derive[line](t).Schema():          "{SKU string,Count uint16,Tags []string,Extra *{X int64,Y int64,Hot bool,Z float32},Notes map[string][]int32}",
		derive[[4]struct {
			A netip.Addr `millrace:"a"`
			B struct{}
		}](t).Schema(): "[4]{a binary(net/netip.Addr),B {}}",
	} {
		if got != want {
			t.Errorf("schema %s, want %s", got, want)
		}
		n, err := schema.Parse(got)
		if err != nil || n.String() != got {
			t.Errorf("schema %s read as %v: %v", got, n, err)
		}
	}
}

func TestFixedAndMutable(t *testing.T) {
	if f := derive[point](t).Fixed(); f != 21 {
		t.Errorf("point has %d bytes", f)
	}
	if derive[line](t).Fixed() != 0 || !derive[line](t).Mutable() || derive[struct{ S string }](t).Mutable() || derive[time.Time](t).Mutable() {
		t.Error("Fixed or Mutable is wrong")
	}
	if !derive[[2]struct{ B []byte }](t).Mutable() {
		t.Error("an array of slices is mutable")
	}
}

type selfish struct{ Next []selfish }

type hidden struct{ n int }

type withEvent struct {
	time.Time
	Other int
}

func TestTypesThatCannotBeEncoded(t *testing.T) {
	refused[order2](t, "order2.Lines[].Notify")
	refused[selfish](t, "selfish.Next[]")
	refused[hidden](t, "hidden.n")
	refused[struct{ A any }](t, ".A")
	refused[map[string]chan int](t, "[]")
	refused[[]struct{}](t, "struct")
	refused[big.Int](t, "Int.neg")
	refused[complex128](t, "complex128")
	refused[struct {
		A int `millrace:"b"`
		B int `millrace:"b"`
	}](t, ".B")
	refused[struct {
		A int `millrace:"a b"`
	}](t, ".A")
	// The embedded field's MarshalBinary would lose Other.
	if s := derive[withEvent](t).Schema(); s != "{Time time,Other int64}" {
		t.Error(s)
	}
}

type order2 struct {
	Lines []struct{ Notify func() }
}

func refused[T any](t *testing.T, path string) {
	t.Helper()
	_, err := Derive[T]()
	var u *UnsupportedError
	if !errors.As(err, &u) || !strings.Contains(u.Path, path) {
		t.Errorf("%T: error %v, want one at %s", *new(T), err, path)
		return
	}
	t.Log(err)
}

func TestFixedTypesCostNoAllocation(t *testing.T) {
	c := derive[point](t)
	vs := make([]point, 64)
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(50, func() {
		b := c.AppendAll(dst, vs)
		if _, err := c.DecodeAll(b, vs); err != nil {
			t.Fatal(err)
		}
		b = c.Append(dst, &vs[0])
		if _, err := c.Decode(b, &vs[0]); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	type bid struct {
		Auction uint64
		Channel string
	}
	s := derive[bid](t)
	bids := make([]bid, 512)
	for i := range bids {
		bids[i] = bid{uint64(i), "channel-" + string(rune('a'+i%26))}
	}
	b := s.AppendAll(nil, bids)
	if n := testing.AllocsPerRun(20, func() {
		if _, err := s.DecodeAll(b, bids); err != nil {
			t.Fatal(err)
		}
	}); n > 8 {
		t.Errorf("%v allocations for 512 strings", n)
	}
}

func TestWrongBytesAreErrors(t *testing.T) {
	var p point
	c := derive[point](t)
	b := c.Append(nil, &p)
	b[16] = 2
	if _, err := c.Decode(b, &p); !errors.Is(err, ErrCorrupt) {
		t.Errorf("bool of 2: %v", err)
	}
	var bools [4]bool
	if _, err := derive[[4]bool](t).Decode([]byte{0, 1, 7, 0}, &bools); !errors.Is(err, ErrCorrupt) {
		t.Errorf("bool of 7: %v", err)
	}
	var s []string
	huge := binary.AppendUvarint(nil, math.MaxUint64)
	if _, err := derive[[]string](t).Decode(huge, &s); !errors.Is(err, ErrCorrupt) {
		t.Errorf("endless slice: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	c := derive[order](f)
	d, err := DecoderFor[order]("{order_id uint8,At time,Gone map[string]*{A int8,B []bytes},Lines []{Count uint8,SKU string,Old [3]binary(x)},Words [2]string}")
	if err != nil {
		f.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 10 {
		v := random[order](rng)
		f.Add(c.Append(nil, &v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v order
		if _, err := c.Decode(b, &v); err == nil {
			var again order
			if _, err := c.Decode(c.Append(nil, &v), &again); err != nil {
				t.Fatalf("encoding of a decoded value: %v", err)
			}
		}
		_, _ = d(b, &v)
	})
}

// TestCodecsOfATypeAreEqual is what those build on who compare two ends of an
// edge by their codecs.
func TestCodecsOfATypeAreEqual(t *testing.T) {
	type row struct{ A, B string }
	a, err := Derive[row]()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Derive[row]()
	if err != nil || a != b {
		t.Errorf("two codecs of one type differ (%v)", err)
	}
}
