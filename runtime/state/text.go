package state

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"unsafe"
)

// Strings of entries are the table's own: those of records are often pieces of a
// batch's memory, all of which one of them would keep. The strings of a page lie
// one after the other in a few chunks of memory, so that the collector has these
// to mark and not each string. A string that was written never changes, for it
// may have been handed out. When much was written since, the strings that entries
// have still move to a new chunk, and so those are gone that nobody has any more.
//
// Short strings that come again and again, such as the names of a few channels,
// are there once for all tables of a state. Long ones have memory of their own.

const (
	// shortText is the length up to which a string may be shared.
	shortText = 32
	// longText is the length from which a string has memory of its own.
	longText = 1024
	// textChunk is the size of a chunk to which strings have not moved, smaller in
	// a page that has had few of them, but for leastChunk.
	textChunk  = 2048
	leastChunk = 64
)

// text is what a page knows of its chunks.
type text struct {
	last    []byte // that is being filled
	moved   uint32 // bytes that moved the last time, and
	written uint32 // those of new strings since
}

// keep makes the strings of a key or a value of an entry the page's own; texts is
// where they lie in it. It takes those in had that are equal, which are.
func (k *kind) keep(p *page, at unsafe.Pointer, texts []uintptr, had []string) {
	n, lone := 0, uint64(0)
	for i, off := range texts {
		s := (*string)(unsafe.Add(at, off))
		switch {
		case *s == "":
			*s = "" // without the pointer that it may have
		case i < len(had) && had[i] == *s:
			*s = had[i]
		case k.common.share(s):
		case len(*s) >= longText || i >= 64:
			*s = strings.Clone(*s)
		default:
			n += len(*s)
			lone |= 1 << i
		}
	}
	if n == 0 {
		return
	}
	t := k.textOf(p)
	if cap(t.last)-len(t.last) < n && !k.turnOver(p, t, n) {
		return
	}
	t.written += uint32(n)
	for ; lone != 0; lone &= lone - 1 {
		t.append((*string)(unsafe.Add(at, texts[bits.TrailingZeros64(lone)])))
	}
}

// append moves a string to the end of the last chunk.
func (t *text) append(s *string) {
	from := len(t.last)
	t.last = append(t.last, *s...)
	*s = unsafe.String(&t.last[from], len(*s))
}

// turnOver begins a new chunk, with room for n bytes. If at least twice as much was
// written as has moved before, all strings of the page move to it, those in hand
// too, and it returns false. So on average each byte moves half a time at most.
func (k *kind) turnOver(p *page, t *text, n int) bool {
	if t.written < 2*t.moved+textChunk {
		t.last = make([]byte, 0, max(n, min(textChunk, max(leastChunk, 2*int(t.moved+t.written)))))
		return true
	}
	size := 0
	k.eachText(p, func(s *string) { size += len(*s) })
	*t = text{last: make([]byte, 0, size+textChunk), moved: uint32(size)}
	k.eachText(p, func(s *string) {
		if !k.common.has(s) {
			t.append(s)
		}
	})
	return false
}

// eachText calls f for the strings of a page that are in chunks or shared.
func (k *kind) eachText(p *page, f func(*string)) {
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		eachString(k.at(p, i), k.keyTexts, f)
		eachString(k.val(p, i), k.valueTexts, f)
	}
}

func eachString(at unsafe.Pointer, texts []uintptr, f func(*string)) {
	for _, off := range texts[:min(64, len(texts))] {
		if s := (*string)(unsafe.Add(at, off)); *s != "" && len(*s) < longText {
			f(s)
		}
	}
}

// textOf is the text of a page, in a layout that is texted.
func (l *layout) textOf(p *page) *text {
	n := p.capacity()
	return (*text)(unsafe.Add(unsafe.Pointer(p), int(p.slots)-8*n-8*l.ages(n)-textHead))
}

// textHead is the size of a text in a page.
const textHead = int(unsafe.Sizeof(text{}))

// commons are short strings that come often. Where few do, it gives up.
type commons struct {
	seed        maphash.Seed
	of          [256]common
	asked, came int
	off         bool
}

// commonTrial is how many strings are looked up before a decision, commonLeast how
// many of them must have come before.
const (
	commonTrial = 4096
	commonLeast = 512
)

// common is a string that came often, or the sum of one that came once. worth is
// how many others may come in its place before it has to go.
type common struct {
	sum   uint64
	s     string
	worth uint8
}

// share puts a string that came before in the place of an equal one, and says
// whether it did.
func (c *commons) share(s *string) bool {
	if len(*s) > shortText || c.off {
		return false
	}
	if c.asked++; c.asked == commonTrial {
		if c.came < commonLeast {
			c.off, c.of = true, [256]common{}
			return false
		}
		c.asked, c.came = 0, 0
	}
	sum := maphash.String(c.seed, *s)
	e := &c.of[sum%uint64(len(c.of))]
	switch {
	case e.s == *s:
		e.worth = 3
	case e.worth > 0:
		e.worth--
		return false
	case e.sum != sum:
		e.sum, e.s = sum, ""
		return false
	default: // it comes the second time
		e.s = strings.Clone(*s)
	}
	c.came++
	*s = e.s
	return true
}

// has puts a string that came often in the place of an equal one, and says whether
// it did.
func (c *commons) has(s *string) bool {
	if len(*s) > shortText || c.off {
		return false
	}
	e := &c.of[maphash.String(c.seed, *s)%uint64(len(c.of))]
	if e.s != *s {
		return false
	}
	*s = e.s
	return true
}
