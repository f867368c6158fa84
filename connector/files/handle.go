package files

import (
	"encoding/binary"
	"fmt"
)

// handleVersion is the first byte of a handle (docs/formats/files.md).
const handleVersion = 1

// handle is one transaction of one subtask: the parts to publish. It is in
// checkpoints, so a later version must read it. Subtask and Number identify it
// within the epoch.
type handle struct {
	lineage, sink string
	epoch         uint64
	subtask       uint64
	number        uint64
	parts         []staged
}

// staged is a part that is durable under one key and to be seen under another.
type staged struct {
	from string // below stagedFolder
	to   string
	size uint64
}

func (h *handle) id() string { return idOf(h.lineage, h.sink) }

func (h *handle) encode() []byte {
	b := []byte{handleVersion}
	b = appendText(b, h.lineage)
	b = appendText(b, h.sink)
	b = binary.AppendUvarint(b, h.epoch)
	b = binary.AppendUvarint(b, h.subtask)
	b = binary.AppendUvarint(b, h.number)
	b = binary.AppendUvarint(b, uint64(len(h.parts)))
	for _, p := range h.parts {
		b = appendText(b, p.from)
		b = appendText(b, p.to)
		b = binary.AppendUvarint(b, p.size)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func decodeHandle(b []byte) (*handle, error) {
	if len(b) == 0 || b[0] != handleVersion {
		return nil, fmt.Errorf("it is empty or not of version %d", handleVersion)
	}
	r := reader{size: len(b), rest: b[1:]}
	h := &handle{lineage: r.text(), sink: r.text(), epoch: r.number(), subtask: r.number(), number: r.number()}
	for n := r.number(); n > 0 && r.err == nil; n-- {
		h.parts = append(h.parts, staged{from: r.text(), to: r.text(), size: r.number()})
	}
	if r.err == nil && len(r.rest) > 0 {
		r.fail()
	}
	return h, r.err
}

// reader reads fields until the first that is malformed.
type reader struct {
	size int
	rest []byte
	err  error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("it is malformed at byte %d of %d", r.size-len(r.rest), r.size)
	}
	r.rest = nil
}

func (r *reader) number() uint64 {
	n, w := binary.Uvarint(r.rest)
	if w <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[w:]
	return n
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}
