package blob_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/blob"
)

const writerEnv = "BLOB_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		writeUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// checked is an object that knows whether it is whole: number, body, CRC.
func checked(n uint64) []byte {
	data := binary.LittleEndian.AppendUint64(nil, n)
	data = append(data, bytes.Repeat([]byte{byte(n)}, 1<<10+int(n%97)<<10)...)
	return binary.LittleEndian.AppendUint32(data, crc32.ChecksumIEEE(data))
}

func numberOf(data []byte) (uint64, error) {
	if len(data) < 12 || crc32.ChecksumIEEE(data[:len(data)-4]) != binary.LittleEndian.Uint32(data[len(data)-4:]) {
		return 0, fmt.Errorf("object of %d bytes is not whole", len(data))
	}
	return binary.LittleEndian.Uint64(data), nil
}

// writeUntilKilled is the child: it writes in every way, and prints a line
// after each write that was acknowledged.
func writeUntilKilled(dir string) {
	fatal := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	b, err := blob.OpenFile(dir)
	if err != nil {
		fatal(err)
	}
	ctx := context.Background()
	run := rand.Uint64() >> 32
	fmt.Println("ready")
	for n := uint64(1); ; n++ {
		data := checked(n)
		if err := b.Put(ctx, "put", bytes.NewReader(data), int64(len(data))); err != nil {
			fatal(err)
		}
		if _, err := b.PutIfAbsent(ctx, fmt.Sprintf("absent/%d-%d", run, n), data); err != nil {
			fatal(err)
		}
		old, v, err := b.Get(ctx, "swapped", 0, -1)
		if errors.Is(err, blob.ErrNotFound) {
			if _, err = b.PutIfAbsent(ctx, "swapped", checked(0)); err == nil {
				continue
			}
		}
		if err != nil {
			fatal(err)
		}
		count, err := numberOf(old)
		if err != nil {
			fatal(err)
		}
		if _, err := b.CompareAndSwap(ctx, "swapped", v, checked(count+1)); err != nil {
			fatal(err)
		}
		fmt.Printf("swapped %d absent/%d-%d\n", count+1, run, n)
	}
}

// A writer is killed at random moments, many times. Every object is whole,
// none that was acknowledged is missing, and the leftovers go.
func TestFileSurvivesKills(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	last, writes := uint64(0), 0
	for round := range rounds {
		var out bytes.Buffer
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), writerEnv+"="+dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, len("ready\n"))
		if _, err := pipe.Read(first); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(random.IntN(60_000))*time.Microsecond, func() { cmd.Process.Signal(syscall.SIGKILL) })
		if _, err := out.ReadFrom(pipe); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if strings.Contains(out.String(), "error") {
			t.Fatalf("seed %d, round %d: the writer failed: %s", seed, round, out.String())
		}

		b, err := blob.OpenFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = b.List(t.Context(), "", func(i blob.Info) error {
			data, _, err := b.Get(t.Context(), i.Key, 0, -1)
			if err == nil {
				_, err = numberOf(data)
			}
			if err == nil && int64(len(data)) != i.Size {
				err = fmt.Errorf("%d bytes listed, %d read", i.Size, len(data))
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", i.Key, err)
			}
			return err
		})
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		for line := range strings.Lines(out.String()) {
			var key string
			if n, _ := fmt.Sscanf(line, "swapped %d %s\n", &last, &key); n < 2 {
				continue
			}
			writes++
			if _, _, err := b.Get(t.Context(), key, 0, 0); err != nil {
				t.Fatalf("seed %d, round %d: acknowledged object: %v", seed, round, err)
			}
		}
		if data, _, err := b.Get(t.Context(), "swapped", 0, -1); err == nil {
			n, err := numberOf(data)
			if err != nil || n < last || n > last+1 {
				t.Fatalf("seed %d, round %d: swapped object is %d (%v), acknowledged or read %d", seed, round, n, err, last)
			}
			last = n
		} else if last > 0 || !errors.Is(err, blob.ErrNotFound) {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		// Only this opening's folder of temporary files is left.
		if left, err := os.ReadDir(filepath.Join(dir, ".millrace", "tmp")); err != nil || len(left) != 1 {
			t.Fatalf("seed %d, round %d: leftovers %v, %v", seed, round, left, err)
		}
		b.Close()
	}
	t.Logf("%d rounds, %d acknowledged rounds of writes", rounds, writes)
}

// A writer that is stopped in the middle holds up nobody.
func TestStoppedWriterHoldsUpNobody(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), writerEnv+"="+dir)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := pipe.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		b, err := blob.OpenFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		data := checked(1)
		if err := b.Put(t.Context(), "put", bytes.NewReader(data), -1); err != nil {
			t.Fatal(err)
		}
		if _, v, err := b.Get(t.Context(), "swapped", 0, -1); err == nil {
			if _, err := b.CompareAndSwap(t.Context(), "swapped", v, data); err != nil && !errors.Is(err, blob.ErrConflict) {
				t.Fatal(err)
			}
		}
		b.Close()
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFileRefusesToLeaveItsFolder(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	b, err := blob.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if data, _, err := b.Get(t.Context(), "link/secret", 0, -1); err == nil {
		t.Errorf("read %q through a link out of the folder", data)
	}
	if err := b.Put(t.Context(), "link/new", strings.NewReader("x"), 1); err == nil {
		t.Error("wrote through a link out of the folder")
	}
}

func TestSwapFoldersGoWithTheirObjects(t *testing.T) {
	dir := t.TempDir()
	open := func() *blob.File {
		b, err := blob.OpenFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	b := open()
	swaps := func() int {
		found, _ := filepath.Glob(filepath.Join(dir, ".millrace/swap/*/*"))
		return len(found)
	}
	make := func(key string) {
		v, err := b.PutIfAbsent(t.Context(), key, []byte("1"))
		for range 3 {
			if err == nil {
				v, err = b.CompareAndSwap(t.Context(), key, v, []byte("2"))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"deleted", "replaced", "orphaned", "kept"} {
		make(key)
	}
	if n := swaps(); n != 4 {
		t.Fatalf("%d swap folders, want 4", n)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, ".millrace/swap/*/*/*")); len(files) != 8 {
		t.Errorf("swap folders hold %v, want a name and its data each", files)
	}
	if err := b.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "replaced", strings.NewReader("3"), 1); err != nil {
		t.Fatal(err)
	}
	if n := swaps(); n != 2 {
		t.Errorf("%d swap folders after Delete and Put, want 2", n)
	}
	// As if Delete had been killed half way.
	if err := os.Remove(filepath.Join(dir, "orphaned")); err != nil {
		t.Fatal(err)
	}
	b = open()
	if n := swaps(); n != 1 {
		t.Errorf("%d swap folders after opening again, want 1", n)
	}
	if data, _, err := b.Get(t.Context(), "kept", 0, -1); err != nil || string(data) != "2" {
		t.Errorf("kept object: %q, %v", data, err)
	}
}

func BenchmarkSmallWrites(b *testing.B) {
	data := bytes.Repeat([]byte("x"), 1<<10)
	for name, bucket := range map[string]blob.Bucket{"memory": blob.NewMemory(), "file": benchFile(b)} {
		b.Run(name+"/PutIfAbsent", func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if _, err := bucket.PutIfAbsent(b.Context(), fmt.Sprintf("journal/%d/%020d", b.N, i), data); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/Put", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if err := bucket.Put(b.Context(), "put", bytes.NewReader(data), int64(len(data))); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/CompareAndSwap", func(b *testing.B) {
			b.ReportAllocs()
			key := fmt.Sprintf("swap/%d", b.N)
			v, err := bucket.PutIfAbsent(b.Context(), key, data)
			for range b.N {
				if err != nil {
					b.Fatal(err)
				}
				v, err = bucket.CompareAndSwap(b.Context(), key, v, data)
			}
			bucket.Delete(b.Context(), key)
		})
		b.Run(name+"/Get", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, _, err := bucket.Get(b.Context(), "put", 0, -1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchFile(b *testing.B) blob.Bucket {
	bucket, err := blob.OpenFile(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { bucket.Close() })
	return bucket
}
