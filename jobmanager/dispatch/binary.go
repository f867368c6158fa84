package dispatch

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const (
	jarPrefix    = "jars/"
	binaryPrefix = "binaries/"
	maxJarName   = 200
)

// Jar is an uploaded binary: what Flink calls a jar.
type Jar struct {
	// ID is 32 hex characters, '_' and the name.
	ID     string `json:"id"`
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// UploadedMs is when the upload ended, in Unix milliseconds.
	UploadedMs int64 `json:"uploaded_ms"`
}

// NewID returns 32 random lower-case hex characters.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Upload takes a binary in: to a file first, where it is measured and looked
// at, then into the bucket under its digest. An upload that fails leaves
// nothing.
func (d *Dispatcher) Upload(ctx context.Context, name string, r io.Reader) (Jar, error) {
	name, err := jarName(name)
	if err != nil {
		return Jar{}, err
	}
	f, err := os.CreateTemp(d.cfg.UploadDir, "millrace-upload-")
	if err != nil {
		return Jar{}, diskError("upload of "+name, err)
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	digest := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, digest), io.LimitReader(r, d.cfg.MaxUpload+1))
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return Jar{}, diskError("upload of "+name, err)
	case err != nil:
		return Jar{}, api.Errorf(api.UploadIncomplete, "upload of %s ended after %d bytes: %w", name, n, err)
	case n > d.cfg.MaxUpload:
		return Jar{}, api.Errorf(api.BinaryTooLarge, "%s is larger than %d bytes", name, d.cfg.MaxUpload)
	}
	if err := checkExecutable(name, f, n); err != nil {
		return Jar{}, err
	}
	jar := Jar{ID: NewID() + "_" + name, Name: name, Size: n, SHA256: hex.EncodeToString(digest.Sum(nil)), UploadedMs: d.Now().UnixMilli()}
	// All of it is here: a client that leaves now has uploaded it.
	return jar, d.keep(context.WithoutCancel(ctx), jar, f)
}

// keep writes the binary, unless the bucket has it, and then its jar.
func (d *Dispatcher) keep(ctx context.Context, jar Jar, f *os.File) error {
	release, err := d.holdBinaries(ctx)
	if err != nil {
		return err
	}
	defer release()
	key := binaryPrefix + jar.SHA256
	if _, _, err := d.cfg.Bucket.Get(ctx, key, 0, 1); errors.Is(err, blob.ErrNotFound) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return diskError("upload of "+jar.Name, err)
		}
		if err := d.cfg.Bucket.Put(ctx, key, f, jar.Size); err != nil {
			return api.Errorf(api.BucketUnavailable, "store binary %s: %w", key, err)
		}
	} else if err != nil {
		return api.Errorf(api.BucketUnavailable, "look for binary %s: %w", key, err)
	}
	data, err := json.Marshal(jar)
	if err != nil {
		return fmt.Errorf("encode jar %s: %w", jar.ID, err)
	}
	if _, err := d.cfg.Bucket.PutIfAbsent(ctx, jarPrefix+jar.ID, data); err != nil {
		if err := d.collectBinary(ctx, jar.SHA256); err != nil {
			d.cfg.Log.Warn("binary was not deleted", "binary", jar.SHA256, "error", err)
		}
		return api.Errorf(api.BucketUnavailable, "store jar %s: %w", jar.ID, err)
	}
	return nil
}

// holdBinaries keeps others from changing the set of binaries.
func (d *Dispatcher) holdBinaries(ctx context.Context) (release func(), err error) {
	select {
	case d.binaries <- struct{}{}:
		return func() { <-d.binaries }, nil
	case <-ctx.Done():
		return nil, api.Errorf(api.TimedOut, "waiting for other uploads: %w", ctx.Err())
	}
}

// jarName makes a name that can be a bucket key and part of a path.
func jarName(name string) (string, error) {
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	if len(name) > maxJarName {
		return "", api.Errorf(api.NameTooLong, "name of the binary has %d bytes, at most %d are allowed", len(name), maxJarName)
	}
	ok := name != "" && name != "." && name != ".." && name != "/"
	for _, r := range name {
		ok = ok && r > ' ' && r < 0x7f && !strings.ContainsRune(`/%?#"'<>:*|`, r)
	}
	if !ok {
		return "", api.Errorf(api.NameInvalid, "name of the binary %q", name)
	}
	return name, nil
}

func diskError(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return api.Errorf(api.DiskFull, "%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// goarchOf is GOARCH by ELF machine.
var goarchOf = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm",
	elf.EM_RISCV: "riscv64", elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_LOONGARCH: "loong64", elf.EM_MIPS: "mips",
}

// checkExecutable refuses what cannot run on this platform.
func checkExecutable(name string, f *os.File, size int64) error {
	here := goruntime.GOOS + "/" + goruntime.GOARCH
	wrong := func(platform string) error {
		return api.Errorf(api.BinaryWrongPlatform, "%s is built for %s, the cluster runs %s", name, platform, here).
			With("Build it with GOOS=" + goruntime.GOOS + " GOARCH=" + goruntime.GOARCH)
	}
	r := io.NewSectionReader(f, 0, size)
	e, err := elf.NewFile(r)
	if err != nil {
		if m, err := macho.NewFile(r); err == nil {
			return wrong("darwin (" + m.Cpu.String() + ")")
		}
		if _, err := pe.NewFile(r); err == nil {
			return wrong("windows")
		}
		return api.Errorf(api.BinaryNotExecutable, "%s (%d bytes) is no executable: %w", name, size, err)
	}
	if e.Type != elf.ET_EXEC && e.Type != elf.ET_DYN {
		return api.Errorf(api.BinaryNotExecutable, "%s is an ELF file of type %s, no executable", name, e.Type)
	}
	goos, goarch := "linux", goarchOf[e.Machine]
	if goarch == "" {
		goarch = e.Machine.String()
	}
	if info, err := buildinfo.Read(r); err == nil {
		for _, s := range info.Settings {
			switch s.Key {
			case "GOOS":
				goos = s.Value
			case "GOARCH":
				goarch = s.Value
			}
		}
	}
	if goos+"/"+goarch != here {
		return wrong(goos + "/" + goarch)
	}
	return nil
}

// Jars lists the uploaded binaries, the latest first.
func (d *Dispatcher) Jars(ctx context.Context) ([]Jar, error) {
	var ids []string
	err := d.cfg.Bucket.List(ctx, jarPrefix, func(i blob.Info) error {
		ids = append(ids, strings.TrimPrefix(i.Key, jarPrefix))
		return nil
	})
	if err != nil {
		return nil, api.Errorf(api.BucketUnavailable, "list binaries: %w", err)
	}
	var jars []Jar
	for _, id := range ids {
		jar, err := d.Jar(ctx, id)
		if api.CodeOf(err) == api.BinaryNotFound {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		jars = append(jars, jar)
	}
	slices.SortStableFunc(jars, func(a, b Jar) int { return int(b.UploadedMs - a.UploadedMs) })
	return jars, nil
}

// Jar returns one uploaded binary.
func (d *Dispatcher) Jar(ctx context.Context, id string) (Jar, error) {
	if strings.ContainsAny(id, "/\\") || id == "" || id == "." || id == ".." {
		return Jar{}, api.Errorf(api.BinaryNotFound, "binary %q is not known", id)
	}
	data, _, err := d.cfg.Bucket.Get(ctx, jarPrefix+id, 0, -1)
	if errors.Is(err, blob.ErrNotFound) {
		return Jar{}, api.Errorf(api.BinaryNotFound, "binary %s is not known", id)
	}
	if err != nil {
		return Jar{}, api.Errorf(api.BucketUnavailable, "read %s%s: %w", jarPrefix, id, err)
	}
	var jar Jar
	if err := json.Unmarshal(data, &jar); err != nil {
		return Jar{}, api.Errorf(api.BinaryCorrupt, "description of binary %s: %w", id, err)
	}
	return jar, nil
}

// DeleteJar deletes an uploaded binary. Its bytes go when no other upload and
// no job that is known needs them.
func (d *Dispatcher) DeleteJar(ctx context.Context, id string) error {
	release, err := d.holdBinaries(ctx)
	if err != nil {
		return err
	}
	defer release()
	jar, err := d.Jar(ctx, id)
	if err != nil {
		return err
	}
	if err := d.cfg.Bucket.Delete(ctx, jarPrefix+id); err != nil {
		return api.Errorf(api.BucketUnavailable, "delete %s%s: %w", jarPrefix, id, err)
	}
	return d.collectBinary(ctx, jar.SHA256)
}

// collectBinary deletes a binary that nothing names. Its caller holds the
// binaries.
func (d *Dispatcher) collectBinary(ctx context.Context, digest string) error {
	needed := false
	d.journal.View(func(s *pb.JournalSnapshot) {
		for _, r := range s.GetJobs() {
			needed = needed || r.GetSubmitted().GetBinary() == digest
		}
	})
	if needed {
		return nil
	}
	jars, err := d.Jars(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(jars, func(j Jar) bool { return j.SHA256 == digest }) {
		return nil
	}
	if err := d.cfg.Bucket.Delete(ctx, binaryPrefix+digest); err != nil {
		return api.Errorf(api.BucketUnavailable, "delete binary %s: %w", digest, err)
	}
	return nil
}
