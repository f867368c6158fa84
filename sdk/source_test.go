package sdk

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readAll reads a source by hand, split after split. Every `every` records it
// throws the reader away and opens another at its position, as a restore does.
func readAll[T any](t *testing.T, src Source[T], every int) []T {
	t.Helper()
	ctx := context.Background()
	splits, err := src.Splits(ctx, SourceEnv{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []T
	for _, s := range splits {
		var position []byte
		for ended := false; !ended; {
			r, err := src.Open(ctx, SourceEnv{}, s, position)
			if err != nil {
				t.Fatal(err)
			}
			for n := 0; n < every && !ended; {
				var b Batch[T]
				status, err := r.Poll(&b, min(3, every-n))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, b.Values...)
				n += len(b.Values)
				ended = status == ReadEnded
			}
			position = slices.Clone(r.Position())
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreReadOnWhereTheyStood(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("long ", 30000)
	writeFile(t, filepath.Join(dir, "b.txt"), "4\r\n\n"+long+"\nlast without end")
	writeFile(t, filepath.Join(dir, "a.txt"), "1\n2\n3\n")
	want := []string{"1", "2", "3", "4", "", long, "last without end"}
	for every := 1; every < 9; every++ {
		got := readAll(t, Files(filepath.Join(dir, "*.txt"), Lines()), every)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("a restore every %d records (-want +got):\n%s", every, diff)
		}
	}
}

func TestFilesWithAHeader(t *testing.T) {
	type row struct {
		N    int    `csv:"n"`
		Name string `csv:"name"`
	}
	path := filepath.Join(t.TempDir(), "rows.csv")
	writeFile(t, path, "name,ignored,n\nx,-,1\ny,-,2\nz,-,3\n")
	for every := 1; every < 5; every++ {
		got := readAll(t, Files(path, CSV[row](), Header()), every)
		if diff := cmp.Diff([]row{{1, "x"}, {2, "y"}, {3, "z"}}, got); diff != "" {
			t.Errorf("a restore every %d records (-want +got):\n%s", every, diff)
		}
	}
	writeFile(t, path, "name,ignored\n")
	_, err := Files(path, CSV[row](), Header()).Open(context.Background(), SourceEnv{}, Split{ID: path}, nil)
	if err == nil || !strings.Contains(err.Error(), `"n"`) || !strings.Contains(err.Error(), path) {
		t.Errorf("a header without a column: %v", err)
	}
}

func TestFilesNameThePlaceOfWhatDoesNotDecode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "numbers")
	writeFile(t, path, "1\n22\nthree\n")
	r, err := Files(path, JSON[int]()).Open(context.Background(), SourceEnv{}, Split{ID: path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Poll(&Batch[int]{}, 10)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "byte 5") {
		t.Errorf("error %v, want one with the file and byte 5", err)
	}
}

func TestFilesThatAreNotThereAnymore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	src := Files(path, Lines())
	if _, err := src.Splits(context.Background(), SourceEnv{}, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	writeFile(t, path, "cut")
	if _, err := src.Open(context.Background(), SourceEnv{}, Split{ID: path}, positionOf(100)); err == nil || !strings.Contains(err.Error(), "cut or replaced") {
		t.Errorf("a file that was cut: %v", err)
	}
}

func TestGeneratedRecordsAreEachMadeOnce(t *testing.T) {
	for _, n := range []int64{0, 1, 3, 10, 101} {
		for every := 1; every < 6; every++ {
			got := readAll(t, Generate(n, func(i int64) int64 { return i }, GenerateSplits(3)), every)
			slices.Sort(got)
			want := []int64{}
			for i := range n {
				want = append(want, i)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d records, a restore every %d: %v", n, every, got)
			}
		}
	}
}

func TestAnEndlessGeneratorEndsWhereADrainSays(t *testing.T) {
	src := Generate(-1, func(i int64) int64 { return i }, GenerateSplits(2))
	r, err := src.Open(context.Background(), SourceEnv{}, Split{ID: "1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b Batch[int64]
	if status, _ := r.Poll(&b, 3); status != ReadMore {
		t.Errorf("status %v", status)
	}
	r.StopAfter(positionOf(5))
	if status, _ := r.Poll(&b, 100); status != ReadEnded || !slices.Equal(b.Values, []int64{1, 3, 5, 7, 9}) {
		t.Errorf("status %v after %v", status, b.Values)
	}
	if src.Bounded() {
		t.Error("an endless generator says that it is bounded")
	}
}

func TestIteratorsAreReplayedBySkipping(t *testing.T) {
	starts := 0
	src := Iterate(func() iter.Seq[int] {
		starts++
		return func(yield func(int) bool) {
			for i := 0; i < 7 && yield(i*i); i++ {
			}
		}
	})
	if diff := cmp.Diff([]int{0, 1, 4, 9, 16, 25, 36}, readAll(t, src, 2)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if starts < 4 {
		t.Errorf("the iterator was started %d times, want one for each restore", starts)
	}
	if _, err := src.Open(context.Background(), SourceEnv{}, Split{}, positionOf(8)); err == nil || !strings.Contains(err.Error(), "after 7 records") {
		t.Errorf("an iterator that became shorter: %v", err)
	}
}

func TestWriteFilesAppendsLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	for range 2 {
		w, err := WriteFiles(dir, JSON[int]()).Open(context.Background(), SinkEnv{Subtask: 3})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if err := w.Write(&Batch[int]{Values: []int{i, i * 10}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&Batch[int]{Values: []int{-1}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "part-3"))
	if err != nil {
		t.Fatal(err)
	}
	once := "0\n0\n1\n10\n2\n20\n"
	if string(got) != once+once {
		t.Errorf("file %q, want what was flushed, twice", got)
	}
}

func TestFuncSinks(t *testing.T) {
	var got []int
	for _, s := range []Sink[int]{
		Func(func(v int) error { got = append(got, v); return nil }),
		FuncBatch(func(v []int) error { got = append(got, v...); return nil }),
	} {
		w, err := s.Open(context.Background(), SinkEnv{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&Batch[int]{Values: []int{1, 2}}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, []int{1, 2, 1, 2}) {
		t.Errorf("the functions got %v", got)
	}
	w, _ := Func(func(v int) error { return fmt.Errorf("no %d", v) }).Open(context.Background(), SinkEnv{})
	if err := w.Write(&Batch[int]{Values: []int{5}}); err == nil || err.Error() != "no 5" {
		t.Errorf("error %v", err)
	}
}
