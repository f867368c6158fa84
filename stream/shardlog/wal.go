package shardlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/stream"
)

// Pebble takes a chunk of its write-ahead log that is invalid for the log's end,
// as after a power loss: one flipped bit would drop the acknowledged records from
// there on without a word. But the committer writes a batch only when the one
// before it is fsynced. So a batch that begins behind an invalid chunk says that
// the chunk was durable, and the log is damaged, not cut off.
//
// What has no batch behind it cannot be told from a write that power loss cut
// off: the last batch before a crash.
//
// Format of a chunk, of Pebble 2's record package, little-endian: CRC u32 of all
// from the type on, length u16, type u8, number of the log u32, from type 9 on the
// offset up to which the log was fsynced u64, payload. Types 5 and 9 are a whole
// batch, 6 and 10 the first part of one, 7, 8, 11 and 12 further parts. A chunk
// never crosses a block.
const (
	walBlock     = 32 << 10
	walShortHead = 4 + 2 + 1 + 4
	walHead      = walShortHead + 8
)

// checkWALs looks at every write-ahead log of a folder.
func checkWALs(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		digits, isLog := strings.CutSuffix(name, ".log")
		digits, _, _ = strings.Cut(digits, "-")
		number, err := strconv.ParseUint(digits, 10, 64)
		if !isLog || err != nil {
			continue
		}
		if err := checkWAL(fs, filepath.Join(dir, name), uint32(number)); err != nil {
			return err
		}
	}
	return nil
}

func checkWAL(fs vfs.FS, path string, number uint32) error {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, walBlock)
	ended := int64(-1) // where the first invalid chunk is
	for at := int64(0); ; at += walBlock {
		n, err := io.ReadFull(f, block)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read %s: %w", path, err)
		}
		b, from := block[:n], 0
		if ended < 0 {
			for {
				size, _ := walChunk(b[from:], number)
				if size == 0 {
					break
				}
				from += size
			}
			if n == walBlock && n-from < walHead && zero(b[from:]) {
				continue // no further chunk fits
			}
			ended = at + int64(from)
			from++
		}
		// A damaged length leads nowhere: any byte may begin a chunk.
		for ; from < n; from++ {
			if _, begins := walChunk(b[from:], number); begins {
				return stream.Errorf(stream.Corrupt, "%s is damaged at offset %d: there are records behind it. "+
					"Restore the folder from a copy; cutting the file off there gives up acknowledged records", path, ended)
			}
		}
	}
}

// walChunk is the size of the chunk at the start of b, 0 if there is none, and
// whether a batch begins with it.
func walChunk(b []byte, number uint32) (size int, begins bool) {
	if len(b) < walShortHead || b[6] < 5 || b[6] > 12 || binary.LittleEndian.Uint32(b[7:]) != number {
		return 0, false
	}
	size = walShortHead
	if b[6] >= 9 {
		size = walHead
	}
	if size += int(binary.LittleEndian.Uint16(b[4:])); size > len(b) {
		return 0, false
	}
	sum := crc32.Checksum(b[6:size], castagnoli)
	if binary.LittleEndian.Uint32(b) != (sum>>15|sum<<17)+0xa282ead8 {
		return 0, false
	}
	return size, b[6] == 5 || b[6] == 6 || b[6] == 9 || b[6] == 10
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
