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
	changeSize    = 32
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

// spill writes what is held as one more part. An error is for Finish.
func (w *Writer) spill() {
	if w.err == nil {
		w.err = w.spillPart()
	}
	for i, g := range w.waiting {
		if g != nil {
			g.free()
			w.waiting[i] = nil
		}
	}
	w.held = 0
}

func (w *Writer) spillPart() error {
	if w.parts == nil {
		if err := w.beginParts(); err != nil {
			return err
		}
	}
	rank, sorted, err := w.rankNames()
	if err != nil {
		return err
	}
	p := w.parts
	buf := bufio.NewWriterSize(io.NewOffsetWriter(p.file, p.at), spillBuffer)
	b := newBuilder(buf, partBlock)
	for g := w.first; g <= w.last; g++ {
		w.encode(b, rank, g)
	}
	b.end()
	if err := errors.Join(b.err, buf.Flush()); err != nil {
		return fmt.Errorf("write scratch file in %s: %w", w.scratch.Folder, err)
	}
	w.endPart(b, sorted)
	return nil
}

// beginParts makes the file of the parts. What was encoded is the first of them.
func (w *Writer) beginParts() error {
	file, err := scratchFile(w.scratch.Folder)
	if err != nil {
		return err
	}
	w.parts = &parts{file: file}
	if w.begun == nil {
		return nil
	}
	e := w.begun
	w.begun = nil
	e.end()
	defer func() { _ = e.out.close() }() // it was read
	blocks, err := e.out.written()
	if err == nil {
		_, err = io.Copy(file, io.NewSectionReader(blocks, 0, e.length))
	}
	if err := errors.Join(e.err, err); err != nil {
		return fmt.Errorf("write scratch file in %s: %w", w.scratch.Folder, err)
	}
	w.endPart(e.builder, e.names)
	return nil
}

// endPart adds what was built, at the end of the file, to the parts.
func (w *Writer) endPart(b *builder, names []string) {
	p := w.parts
	head := b.head(header{groups: w.groups, first: w.first, last: w.last, names: names}, 0)
	p.list = append(p.list, part{head: head, offset: p.at, length: b.length})
	p.at += b.length
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
	if w.held > 0 {
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
		run := Run{apart: &apart{head: p.head, blocks: w.parts.file, offset: p.offset, length: p.length}}
		r, err := openSource(fmt.Sprintf("(part %d in %s)", i, w.scratch.Folder), run.Size(),
			&ownSource{run}, w.first, w.last, reading{window: partBlock})
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
	if err := m.Err(); err != nil {
		return Run{}, errors.Join(err, out.close())
	}
	return b.run(h, out)
}

// overflow holds bytes in memory up to the scratch's bound, then in a file.
type overflow struct {
	scratch Scratch
	chunks  chunks
	file    *os.File
	buf     *bufio.Writer
}

func (o *overflow) Write(p []byte) (int, error) {
	if o.file != nil {
		n, err := o.buf.Write(p)
		return n, o.fail(err)
	}
	if o.scratch.Folder == "" || o.chunks.size()+int64(len(p)) <= int64(o.scratch.Memory) {
		o.chunks = o.chunks.append(p)
		return len(p), nil
	}
	var err error
	if o.file, err = scratchFile(o.scratch.Folder); err != nil {
		return 0, err
	}
	o.buf = bufio.NewWriterSize(o.file, spillBuffer)
	for _, c := range o.chunks {
		if _, err := o.buf.Write(c.bytes); err != nil {
			return 0, o.fail(err)
		}
	}
	o.chunks = nil
	n, err := o.buf.Write(p)
	return n, o.fail(err)
}

// written is what was written, wherever it is.
func (o *overflow) written() (io.ReaderAt, error) {
	if o.file == nil {
		return o.chunks, nil
	}
	return o.file, o.flush()
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
