package shardlog

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/stream"
)

// filesOf are those of a folder, by name, with what is in them.
func filesOf(t *testing.T, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		f, err := fs.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if all[name], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func folderOf(t *testing.T, dir string, all map[string][]byte) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range all {
		f, err := fs.Create(filepath.Join(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Clone(data)); err != nil { // race builds of the store spoil what was written
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// everything reads all records of shards; what goes wrong on the way is an
// error.
func everything(t *testing.T, fs vfs.FS, dir string, ids ...ID) (out []string, err error) {
	l, err := Open(dir, Options{FS: fs, CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	for _, id := range ids {
		at := stream.Position{From: stream.FromTrimHorizon}
		for {
			a, err := l.Read(t.Context(), id, ReadRequest{At: at, MaxRecords: 100, MaxBytes: 1 << 20})
			if err != nil {
				return nil, fmt.Errorf("read %v: %w", id, err)
			}
			if a.Records == nil {
				break
			}
			out = append(out, texts(t, a.Records)...)
			at = stream.Position{From: stream.FromAfterSequence, Sequence: a.Next}
		}
	}
	return out, nil
}

// footerBytes is the size of the end of a table that says where its blocks are.
const footerBytes = 61

// blockOf is what an error says about a place: Pebble names a block by its offset
// and its length, behind which are five bytes of its checksum. The footer, which it
// reads first, it names as such: its offset is the file's size less footerBytes.
var blockOf = regexp.MustCompile(`block (\d+)/(\d+):`)

func names(err error, at, size int) bool {
	if at >= size-footerBytes {
		return strings.Contains(err.Error(), "pebble/table: invalid table")
	}
	m := blockOf.FindStringSubmatch(err.Error())
	if m == nil {
		return false
	}
	first, _ := strconv.Atoi(m[1])
	length, _ := strconv.Atoi(m[2])
	return first <= at && at < first+length+5
}

// One bit of a table of the store flips: the log opens and gives all records, or
// an error that names the file and where in it. It never hangs, and never leaves
// out a record.
func TestAFlippedBitOfATableIsNamedOrWithoutEffect(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	fs := vfs.NewMem()
	l, stop := startLog(t, "log", Options{FS: fs, MemTableBytes: 256 << 10})
	for _, id := range []ID{shard0, shard1} {
		if err := l.Create(t.Context(), Spec{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 120 {
		for _, id := range []ID{shard0, shard1} {
			if _, _, err := l.Append(t.Context(), id, makeBlock(fmt.Sprint(id.Shard, "-", i), fmt.Sprint(rng.Uint64()))); err != nil {
				t.Fatal(err)
			}
		}
		if i == 40 || i == 80 {
			if err := l.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	all := filesOf(t, fs, "log")
	want, err := everything(t, folderOf(t, "log", all), "log", shard0, shard1)
	if err != nil || len(want) != 480 {
		t.Fatalf("%d records, %v", len(want), err)
	}
	var tables []string
	for name := range all {
		if strings.HasSuffix(name, ".sst") {
			tables = append(tables, name)
		}
	}
	slices.Sort(tables)
	const flips = 700
	named := 0
	for range flips {
		name := tables[rng.IntN(len(tables))]
		whole := all[name]
		at := rng.IntN(len(whole))
		all[name] = bytes.Clone(whole)
		all[name][at] ^= 1 << rng.IntN(8)
		got, err := everything(t, folderOf(t, "log", all), "log", shard0, shard1)
		all[name] = whole
		switch {
		case err == nil && !slices.Equal(want, got):
			t.Errorf("seed %d: byte %d of %s: %d records, want %d, and no error", seed, at, name, len(got), len(want))
		case err != nil && (!strings.Contains(err.Error(), filepath.Join("log", name)) || strings.Contains(err.Error(), "carrier") || !names(err, at, len(whole))):
			t.Errorf("seed %d: byte %d of %s (%d): the error does not name file and place: %v", seed, at, name, len(whole), err)
		case err != nil && stream.KindOf(err) != stream.Corrupt:
			t.Errorf("seed %d: byte %d of %s: of kind %v: %v", seed, at, name, stream.KindOf(err), err)
		case err != nil:
			named++
		}
	}
	t.Logf("%d of %d were named, the others had no effect", named, flips)
	if named == 0 {
		t.Error("no damage was met")
	}
}

// One bit of the newest write-ahead log flips. What is left out then is at most the
// last batch, which has none behind it.
func TestAFlippedBitOfTheWriteAheadLogIsNamed(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	fs := vfs.NewMem()
	l, stop := startLog(t, "log", Options{FS: fs})
	if err := l.Create(t.Context(), Spec{ID: shard0}); err != nil {
		t.Fatal(err)
	}
	if rng.IntN(2) == 0 { // only the logs after a store's first have offsets in their chunks
		stop()
		l, stop = startLog(t, "log", Options{FS: fs})
	}
	for i := range 300 {
		text := strings.Repeat(fmt.Sprint(i, "-"), 1+rng.IntN(60))
		if _, _, err := l.Append(t.Context(), shard0, makeBlock(text)); err != nil {
			t.Fatal(err)
		}
	}
	all := filesOf(t, fs, "log") // as after a crash
	stop()
	want, err := everything(t, folderOf(t, "log", all), "log", shard0)
	if err != nil || len(want) != 300 {
		t.Fatalf("%d records, %v", len(want), err)
	}
	newest := ""
	for name := range all {
		if strings.HasSuffix(name, ".log") {
			newest = max(newest, name)
		}
	}
	whole := all[newest]
	end := len(bytes.TrimRight(whole, "\x00"))
	const flips = 300
	named := 0
	for range flips {
		at := rng.IntN(end)
		all[newest] = bytes.Clone(whole)
		all[newest][at] ^= 1 << rng.IntN(8)
		got, err := everything(t, folderOf(t, "log", all), "log", shard0)
		switch {
		case err == nil && (len(got) < len(want)-1 || !slices.Equal(want[:len(got)], got)):
			t.Errorf("seed %d: byte %d of %s (%d): %d records, want %d, and no error", seed, at, newest, end, len(got), len(want))
		case err != nil && (!strings.Contains(err.Error(), newest) || !strings.Contains(err.Error(), "offset")):
			t.Errorf("seed %d: byte %d of %s: the error does not name file and offset: %v", seed, at, newest, err)
		case err != nil:
			named++
		}
	}
	t.Logf("%d of %d were named, in %d bytes", named, flips, end)
	if end < walBlock || named < flips*29/30 {
		t.Errorf("%d of %d were named, in %d bytes", named, flips, end)
	}
}
