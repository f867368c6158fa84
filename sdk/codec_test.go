package sdk

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

type level int

func (l level) MarshalText() ([]byte, error) { return []byte(strings.Repeat("*", int(l))), nil }
func (l *level) UnmarshalText(b []byte) error {
	*l = level(len(b))
	return nil
}

type reading struct {
	At     time.Time `csv:"at"`
	Place  string    `csv:"place"`
	Value  float64   `csv:"value"`
	Count  uint16    `csv:"count,optional"`
	OK     bool      `csv:"ok"`
	Stars  level     `csv:"stars"`
	Secret chan int  `csv:"-"`
	Line   string    `csv:",line"`
	hidden int
}

const readingLine = `2001-02-03T04:05:06.5Z,"Oslo, ""north""",-1.5,,true,***`

func TestCSVReadsAndWritesTheSameLine(t *testing.T) {
	c := CSV[reading]()
	if err := check(c); err != nil {
		t.Fatal(err)
	}
	got, err := c.Decode([]byte(readingLine))
	if err != nil {
		t.Fatal(err)
	}
	want := reading{At: time.Date(2001, 2, 3, 4, 5, 6, 5e8, time.UTC), Place: `Oslo, "north"`, Value: -1.5, OK: true, Stars: 3, Line: readingLine}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(reading{})); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	out, err := c.Append([]byte("> "), got)
	if err != nil {
		t.Fatal(err)
	}
	if want := "> " + strings.Replace(readingLine, ",,", ",0,", 1); string(out) != want {
		t.Errorf("encoded\n%s\nwant\n%s", out, want)
	}
}

func TestCSVNamesTheColumnThatFails(t *testing.T) {
	c := CSV[reading]()
	for line, want := range map[string]string{
		"2001-02-03T04:05:06Z,Oslo,x,1,true,*":     "column 3 (value)",
		"2001-02-03T04:05:06Z,Oslo,1,70000,true,*": "column 4 (count)",
		"2001-02-03T04:05:06Z,Oslo,,1,true,*":      "column 3 (value)",
		"yesterday,Oslo,1,1,true,*":                "column 1 (at)",
		"2001-02-03T04:05:06Z,Oslo,1,1,true":       "5 columns where 6 are wanted",
		`2001-02-03T04:05:06Z,"Oslo,1,1,true,*`:    "does not end",
		`2001-02-03T04:05:06Z,"Oslo"x,1,1,true,*`:  "behind a closing quote",
		"": "1 columns where 6 are wanted",
	} {
		if _, err := c.Decode([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("decode %q: error %v, want one with %q", line, err, want)
		}
	}
}

func TestCSVMapsColumnsByName(t *testing.T) {
	type pair struct {
		A int    `csv:"a"`
		B string `csv:"b"`
	}
	named := CSV[pair]("b", "unused", "a")
	got, err := named.Decode([]byte("x,y,7"))
	if err != nil || got != (pair{7, "x"}) {
		t.Errorf("decoded %+v, %v", got, err)
	}
	if out, err := named.Append(nil, got); err != nil || string(out) != "x,,7" {
		t.Errorf("encoded %q, %v; want a cell for each column", out, err)
	}
	headed, err := CSV[pair]().(headed[pair]).WithHeader([]byte("\xef\xbb\xbfb,a"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := headed.Decode([]byte("x,7")); err != nil || got != (pair{7, "x"}) {
		t.Errorf("decoded by header %+v, %v", got, err)
	}
	for _, columns := range [][]string{{"a"}, {"a", "b", "a"}} {
		if err := check(CSV[pair](columns...)); err == nil {
			t.Errorf("columns %v were accepted", columns)
		}
	}
}

func TestCodecsRefuseTypesInPlanMode(t *testing.T) {
	type nested struct {
		Deep map[string][]struct{ F func() }
	}
	type loop struct {
		Next *loop
		V    int
	}
	for name, c := range map[string]struct {
		codec any
		want  string
	}{
		"CSV of a number":     {CSV[int](), "no struct"},
		"CSV of a slice":      {CSV[struct{ S []int }](), "cannot hold []int"},
		"CSV without columns": {CSV[struct{ s int }](), "no exported field"},
		"CSV option": {CSV[struct {
			S int `csv:"s,opt"`
		}](), "unknown tag option"},
		"JSON of a function":    {JSON[nested](), "nested.Deep.F"},
		"JSON of a channel":     {JSON[chan int](), "cannot hold chan int"},
		"JSON of a bool key":    {JSON[map[bool]int](), "key bool"},
		"JSON that is all fine": {JSON[loop](), ""},
		"protobuf":              {Proto[*pb.Split](), ""},
	} {
		err := check(c.codec)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestSimpleCodecsKeepNothing(t *testing.T) {
	data := []byte("abc")
	raw, _ := Raw().Decode(data)
	line, _ := Lines().Decode(data)
	rec, _ := recordCodec{}.DecodeRecord(Record{Data: data, Key: "k", Where: "w"})
	data[0] = 'x'
	if string(raw) != "abc" || line != "abc" || string(rec.Data) != "abc" || rec.Key != "k" || rec.Where != "w" {
		t.Errorf("decoded %q, %q, %+v share the source's memory", raw, line, rec)
	}
	if out, err := JSON[map[string]string]().Append([]byte("-"), map[string]string{"a": "<&>"}); err != nil || string(out) != `-{"a":"<&>"}` {
		t.Errorf("JSON encoded %s, %v", out, err)
	}
	if _, err := JSON[int]().Decode([]byte("1 2")); err == nil {
		t.Error("JSON took two values for one record")
	}
	if _, err := CodecOf[int](nil, nil).Decode(nil); err == nil {
		t.Error("a codec without a decode function decoded")
	}
}

func TestProtoMakesMessages(t *testing.T) {
	c := Proto[*pb.Split]()
	b, err := c.Append(nil, &pb.Split{Id: "x", Watermark: 7})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Decode(b)
	if err != nil || !proto.Equal(got, &pb.Split{Id: "x", Watermark: 7}) {
		t.Errorf("decoded %v, %v", got, err)
	}
	if _, err := c.Decode([]byte{0xff}); err == nil {
		t.Error("decoded bytes that are no message")
	}
}

func BenchmarkCSVDecode(b *testing.B) {
	c := CSV[reading]()
	line := []byte("2001-02-03T04:05:06Z,Oslo,1,1,true,*")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Decode(line); err != nil {
			b.Fatal(err)
		}
	}
}
