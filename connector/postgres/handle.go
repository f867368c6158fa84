package postgres

import (
	"encoding/binary"
	"fmt"
)

// handleVersion is the first byte of a handle (docs/formats/postgres.md).
const handleVersion = 1

// handle is one transaction of one subtask: which rows are staged where, and
// where they belong. It says that by itself: the sink may have other columns by
// the time at which it is committed.
type handle struct {
	lineage, sink string
	epoch         uint64
	subtask       uint64
	number        uint64 // counts the writer's transactions
	writer        uint64 // chosen by chance: no two writers share one
	rows          uint64
	to            target
}

// target is a table and how rows are put into it.
type target struct {
	schema  string // of staging tables and ledger
	table   string
	columns []string
	keys    []string // of an upsert; none for an append
}

func (h *handle) id() string { return idOf(h.lineage, h.sink) }

func (h *handle) encode() []byte {
	b := []byte{handleVersion}
	b = appendText(b, h.lineage)
	b = appendText(b, h.sink)
	for _, n := range []uint64{h.epoch, h.subtask, h.number, h.writer, h.rows} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendText(b, h.to.schema)
	b = appendText(b, h.to.table)
	for _, list := range [][]string{h.to.columns, h.to.keys} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = appendText(b, s)
		}
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
	h := &handle{
		lineage: r.text(), sink: r.text(),
		epoch: r.number(), subtask: r.number(), number: r.number(), writer: r.number(), rows: r.number(),
		to: target{schema: r.text(), table: r.text(), columns: r.texts(), keys: r.texts()},
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

func (r *reader) texts() (list []string) {
	for n := r.number(); n > 0 && r.err == nil; n-- {
		list = append(list, r.text())
	}
	return list
}
