package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/api"
)

// Objects of the journal, docs/formats/journal.md: a 16-byte header, then a
// protobuf message.
const (
	recordPrefix   = "journal/"
	snapshotPrefix = "journal-snapshot/"
	clusterKey     = "cluster"

	recordMagic   = "MRJR"
	snapshotMagic = "MRJS"
	version       = 1
	headerSize    = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func recordKey(n uint64) string   { return fmt.Sprintf("%s%020d", recordPrefix, n) }
func snapshotKey(n uint64) string { return fmt.Sprintf("%s%020d", snapshotPrefix, n) }

// numberOf is the number in a key of the journal; ok is false for keys of
// another form, which are not the journal's.
func numberOf(key, prefix string) (n uint64, ok bool) {
	digits := strings.TrimPrefix(key, prefix)
	if len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

func encode(magic string, m proto.Message) ([]byte, error) {
	buf := make([]byte, headerSize, headerSize+proto.Size(m))
	buf, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(buf, m)
	if err != nil {
		return nil, err
	}
	body := buf[headerSize:]
	copy(buf, magic)
	binary.LittleEndian.PutUint16(buf[4:], version)
	binary.LittleEndian.PutUint32(buf[8:], uint32(len(body)))
	binary.LittleEndian.PutUint32(buf[12:], crc32.Checksum(body, castagnoli))
	return buf, nil
}

func decode(key, magic string, data []byte, m proto.Message) error {
	fail := func(format string, args ...any) error {
		return api.Errorf(api.JournalCorrupt, "journal object %s: "+format, append([]any{key}, args...)...)
	}
	if len(data) < headerSize {
		return fail("%d bytes, shorter than its header of %d", len(data), headerSize)
	}
	if string(data[:4]) != magic {
		return fail("offset 0: magic %q, want %q", data[:4], magic)
	}
	if v := binary.LittleEndian.Uint16(data[4:]); v != version {
		return fail("offset 4: version %d, this program knows %d", v, version)
	}
	body := data[headerSize:]
	if n := binary.LittleEndian.Uint32(data[8:]); int(n) != len(body) {
		return fail("offset 8: length %d, but %d bytes follow", n, len(body))
	}
	if sum, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(data[12:]); sum != want {
		return fail("offset 12: CRC-32C %08x of the body, want %08x", sum, want)
	}
	if err := proto.Unmarshal(body, m); err != nil {
		return fail("body: %w", err)
	}
	return nil
}
