package supervise

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/blob"
)

// keepBinaries is how long a binary that nobody starts stays on this disk.
const keepBinaries = 7 * 24 * time.Hour

// binaries is the folder of job binaries, each under its SHA-256.
type binaries struct {
	folder string
	mu     struct {
		sync.Mutex
		// ready holds digests that were checked in this run; busy those being
		// fetched, until the channel is closed.
		ready map[string]bool
		busy  map[string]chan struct{}
	}
}

// openBinaries makes the folder, and removes halves and what is old.
func openBinaries(folder string) (*binaries, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	b := &binaries{folder: folder}
	b.mu.ready, b.mu.busy = map[string]bool{}, map[string]chan struct{}{}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && (strings.HasPrefix(e.Name(), ".") || time.Since(info.ModTime()) > keepBinaries) {
			// One that cannot be removed is only in the way of the disk.
			_ = os.Remove(filepath.Join(folder, e.Name()))
		}
	}
	return b, nil
}

// fetch returns the path of a binary with this digest, from the bucket if it
// is not here. One caller fetches, others wait for it.
func (b *binaries) fetch(ctx context.Context, bucket blob.Bucket, digest string) (string, error) {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size || strings.ToLower(digest) != digest {
		return "", faultf(CodeBinaryNotFound, "%.80q is no SHA-256 digest of a binary", digest)
	}
	path := filepath.Join(b.folder, digest)
	for {
		b.mu.Lock()
		if b.mu.ready[digest] {
			b.mu.Unlock()
			return path, nil
		}
		busy := b.mu.busy[digest]
		if busy == nil {
			busy = make(chan struct{})
			b.mu.busy[digest] = busy
			b.mu.Unlock()
			err := b.provide(ctx, bucket, digest, path)
			b.mu.Lock()
			b.mu.ready[digest] = err == nil
			delete(b.mu.busy, digest)
			b.mu.Unlock()
			close(busy)
			return path, err
		}
		b.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// provide checks the file of an earlier run, or fetches a new one.
func (b *binaries) provide(ctx context.Context, bucket blob.Bucket, digest, path string) error {
	if have, err := digestOf(path); err == nil && have == digest {
		now := time.Now()
		_ = os.Chtimes(path, now, now) // keeps it from being taken for old
		return checkExecutable(path)
	}
	if err := b.download(ctx, bucket, digest, path); err != nil {
		return err
	}
	return checkExecutable(path)
}

func (b *binaries) download(ctx context.Context, bucket blob.Bucket, digest, path string) error {
	if bucket == nil {
		return faultf(CodeBucketUnavailable, "fetch binary %.12s: no bucket is known yet", digest)
	}
	r, _, err := bucket.Open(ctx, "binaries/"+digest)
	if errors.Is(err, blob.ErrNotFound) {
		return faultf(CodeBinaryNotFound, "binary %.12s is not in the bucket %s", digest, bucket.URL())
	}
	if err != nil {
		return faultf(CodeBucketUnavailable, "fetch binary %.12s: %w", digest, err)
	}
	defer r.Close()
	temp := filepath.Join(b.folder, "."+digest[:12]+"-"+rand.Text()[:8])
	defer os.Remove(temp)
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return faultf(CodeInternal, "store binary %.12s: %w", digest, err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, sum), r); err != nil {
		return faultf(CodeBucketUnavailable, "fetch binary %.12s: %w", digest, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return faultf(CodeBinaryCorrupt, "binary %.12s has the digest %.12s in the bucket %s: upload it again", digest, got, bucket.URL())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return faultf(CodeInternal, "store binary %.12s: %w", digest, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return faultf(CodeInternal, "store binary %.12s: %w", digest, err)
	}
	return nil
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, fs.ErrInvalid)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// machines are the ELF machines of Go's Linux platforms.
var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm",
	elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64", elf.EM_LOONGARCH: "loong64",
}

// checkExecutable tells what a file is that this machine could not run.
func checkExecutable(path string) error {
	here := goruntime.GOOS + "/" + goruntime.GOARCH
	f, err := os.Open(path)
	if err != nil {
		return faultf(CodeInternal, "read binary: %w", err)
	}
	defer f.Close()
	head := make([]byte, 4)
	n, _ := io.ReadFull(f, head)
	head = head[:n]
	name := filepath.Base(path)
	switch {
	case bytes.HasPrefix(head, []byte("MZ")):
		return faultf(CodeBinaryWrongPlatform, "binary %.12s is for windows, this machine is %s", name, here)
	case bytes.Equal(head, []byte("\xcf\xfa\xed\xfe")), bytes.Equal(head, []byte("\xca\xfe\xba\xbe")):
		return faultf(CodeBinaryWrongPlatform, "binary %.12s is for darwin, this machine is %s", name, here)
	case !bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return faultf(CodeBinaryNotExecutable, "binary %.12s is no executable for %s: it begins with %q", name, here, head)
	}
	parsed, err := elf.NewFile(f)
	if err != nil {
		return faultf(CodeBinaryNotExecutable, "binary %.12s is a damaged executable: %w", name, err)
	}
	if got := machines[parsed.Machine]; got != goruntime.GOARCH {
		return faultf(CodeBinaryWrongPlatform, "binary %.12s is for %s, this machine is %s", name, strings.Trim(fmt.Sprint("linux/", got), "/"), here)
	}
	if parsed.Type != elf.ET_EXEC && parsed.Type != elf.ET_DYN {
		return faultf(CodeBinaryNotExecutable, "binary %.12s is an object of type %s, no executable", name, parsed.Type)
	}
	return nil
}
