package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// Scratch is where a writer puts what it cannot hold.
type Scratch struct {
	// Folder takes files without names, which are gone when their process is.
	// Without one, everything is held in memory.
	Folder string
	// Memory is what a writer may hold in bytes: 32 MiB if 0.
	Memory int
}

const (
	scratchMemory = 32 << 20
	changeSize    = 48
	spillBuffer   = 256 << 10
	// partBlock is small, for many parts are read at once.
	partBlock = 32 << 10
)

// parts are sorted pieces of a run, from the oldest to the newest, in one file.
type parts struct {
	file *os.File
	at   int64
	list []part
}

type part struct {
	head           []byte
	offset, length int64 // of its blocks in the file
}

// Spill lets the writer put what it cannot hold into files.
func (w *Writer) Spill(s Scratch) {
	w.scratch = s.withDefaults()
}

func (s Scratch) withDefaults() Scratch {
	if s.Memory == 0 {
		s.Memory = scratchMemory
	}
	return s
}

func (w *Writer) held() int { return len(w.arena) + changeSize*len(w.changes) }

// spill writes what is held as one more part. An error is for Finish.
func (w *Writer) spill() {
	if w.err == nil {
		w.err = w.spillPart()
	}
	w.arena, w.changes = w.arena[:0], w.changes[:0]
}

func (w *Writer) spillPart() error {
	if w.parts == nil {
		file, err := scratchFile(w.scratch.Folder)
		if err != nil {
			return err
		}
		w.parts = &parts{file: file}
	}
	rank, sorted, err := w.rankNames()
	if err != nil {
		return err
	}
	p := w.parts
	buf := bufio.NewWriterSize(io.NewOffsetWriter(p.file, p.at), spillBuffer)
	b := newBuilder(buf, partBlock)
	w.encode(b, rank)
	if err := errors.Join(b.err, buf.Flush()); err != nil {
		return fmt.Errorf("write scratch file in %s: %w", w.scratch.Folder, err)
	}
	head := b.head(header{groups: w.groups, first: w.first, last: w.last, names: sorted}, 0)
	p.list = append(p.list, part{head: head, offset: p.at, length: b.length})
	p.at += b.length
	return nil
}

// scratchFile makes a file that nobody has to remove.
func scratchFile(folder string) (*os.File, error) {
	f, err := os.CreateTemp(folder, "scratch-")
	if err != nil {
		return nil, fmt.Errorf("make scratch file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make scratch file: %w", err), f.Close())
	}
	return f, nil
}

func (w *Writer) forgetParts() {
	if w.parts != nil {
		_ = w.parts.file.Close() // it has no name: there is nothing to lose
		w.parts = nil
	}
}

// join merges the parts to the run.
func (w *Writer) join() (Run, error) {
	defer w.forgetParts()
	if len(w.changes) > 0 {
		if w.spill(); w.err != nil {
			return Run{}, w.err
		}
	}
	rank, sorted, err := w.rankNames()
	if err != nil {
		return Run{}, err
	}
	var readers []*Reader
	for i, p := range w.parts.list {
		run := Run{file: &onDisk{head: p.head, blocks: w.parts.file, offset: p.offset, length: p.length}}
		r, err := openSource(fmt.Sprintf("(part %d in %s)", i, w.scratch.Folder), run.Size(),
			&diskSource{run}, w.first, w.last, reading{window: partBlock})
		if err != nil {
			return Run{}, err
		}
		readers = append(readers, r)
	}
	m := Merge(readers)
	m.keep = true
	return writeMerged(m, w.scratch, w.header(sorted, rank))
}

// writeMerged writes what a merge gives as a run whose states are h.names, in
// memory as long as the scratch allows.
func writeMerged(m *Merged, s Scratch, h header) (Run, error) {
	out := &overflow{scratch: s.withDefaults()}
	b := newBuilder(out, blockLimit)
	places := make(map[string]uint32, len(h.names))
	for i, name := range h.names {
		places[name] = uint32(i)
	}
	var last string
	var place uint32
	for m.Next() {
		e := m.Entry()
		if e.State != last || b.entries == 0 && b.count == 0 {
			last, place = e.State, places[e.State]
		}
		b.add(e.Group, place, e.Namespace, e.Key, e.Value, e.Delete)
		if b.err != nil {
			break
		}
	}
	b.end()
	if err := errors.Join(m.Err(), b.err, out.flush()); err != nil {
		return Run{}, errors.Join(err, out.close())
	}
	run := Run{KeyGroupFirst: h.first, KeyGroupLast: h.last, Entries: b.entries}
	if out.file == nil {
		run.Bytes = append(b.head(h, len(out.held)), out.held...)
		return run, nil
	}
	run.file = &onDisk{head: b.head(h, 0), blocks: out.file, length: b.length, crc: b.crc}
	return run, nil
}

// overflow holds bytes in memory up to the scratch's bound, then in a file.
type overflow struct {
	scratch Scratch
	held    []byte
	file    *os.File
	buf     *bufio.Writer
}

func (o *overflow) Write(p []byte) (int, error) {
	if o.file == nil {
		if o.scratch.Folder == "" || len(o.held)+len(p) <= o.scratch.Memory {
			o.held = append(o.held, p...)
			return len(p), nil
		}
		var err error
		if o.file, err = scratchFile(o.scratch.Folder); err != nil {
			return 0, err
		}
		o.buf = bufio.NewWriterSize(o.file, spillBuffer)
		if _, err := o.buf.Write(o.held); err != nil {
			return 0, o.fail(err)
		}
		o.held = nil
	}
	n, err := o.buf.Write(p)
	return n, o.fail(err)
}

func (o *overflow) flush() error {
	if o.buf == nil {
		return nil
	}
	return o.fail(o.buf.Flush())
}

func (o *overflow) fail(err error) error {
	if err != nil {
		err = fmt.Errorf("write scratch file in %s: %w", o.scratch.Folder, err)
	}
	return err
}

func (o *overflow) close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
