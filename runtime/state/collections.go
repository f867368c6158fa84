package state

// A list or a map is a table of its elements, keyed by the stream's key and
// their place in it, beside a table of sizes. The high half of an element's
// hash is that of the stream's key, which keeps it in the key's group; the low
// half spreads the elements. None of this is stored: hashes are computed again on
// restore.

// sizeSuffix names the table of sizes, gapsSuffix that of gaps in a list.
const (
	sizeSuffix = "/size"
	gapsSuffix = "/gaps"
)

func within(hash, sub uint64) uint64 {
	x := hash ^ sub*0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return hash&^0xffffffff | x&0xffffffff
}

// cursor reads the entries of a stretch of hashes, a page at a time. It holds
// copies of one page's, so the table may change and its pages may leave memory
// meanwhile.
type cursor[K comparable, V any] struct {
	stretches
	of     *Table[K, V]
	key    K             // what wanted
	wanted func(*K) bool // compares with
	hashes []uint64
	keys   []K
	values []V
}

// begin makes the cursor one of the hashes from first to last.
func (c *cursor[K, V]) begin(t *Table[K, V], first, last uint64) {
	c.of = t
	c.stretches.begin(&t.table, first, last)
}

// read replaces what the cursor holds by the entries of the next page whose key
// is one of those wanted, and says whether there was a page.
func (c *cursor[K, V]) read() bool {
	c.reset()
	p, inTree := c.page()
	if p == nil {
		return false
	}
	for g := range p.groups {
		for m := p.tags(g) & highBits; m != 0; m &= m - 1 {
			i := slotOf(g, m)
			if !c.within(p, i) || !c.wanted(&c.of.at(p, i).key) {
				continue
			}
			if inTree {
				p = c.of.found(p, i)
			}
			s := c.of.at(p, i)
			c.hashes, c.keys, c.values = append(c.hashes, *p.hash(i)), append(c.keys, s.key), append(c.values, s.val)
		}
	}
	return true
}

func (c *cursor[K, V]) reset() {
	clear(c.keys) // what they refer to is not to live on here
	clear(c.values)
	c.hashes, c.keys, c.values = c.hashes[:0], c.keys[:0], c.values[:0]
}

// stretches are the pages of a stretch of hashes.
type stretches struct {
	table      *table
	from       uint64 // of the page that was read
	next, last uint64
	done       bool
	dead       bool // those that have expired come, too
	pages      int
}

func (c *stretches) begin(t *table, first, last uint64) {
	c.table, c.next, c.last = t, max(first, t.s.base), min(last, t.s.top)
	c.done, c.pages = t.root == nil || c.next > c.last, 0
}

// page returns the next page, nil at the end. The first page comes into memory,
// the next ones only while there is room; inTree says that it did.
func (c *stretches) page() (p *page, inTree bool) {
	if c.done {
		return nil, false
	}
	t := c.table
	if c.pages++; c.pages > 1 {
		t.s.Ease()
	}
	p = t.leaf(c.next)
	c.from = c.next
	if c.done = p.last() >= c.last; !c.done {
		c.next = p.last() + 1
	}
	if p.class == 0 && c.pages > 1 && t.s.tier.over() {
		return t.peek(p), false
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	return p, true
}

// within says whether an entry of the page is one of the stretch.
func (c *stretches) within(p *page, i uint32) bool {
	h := *p.hash(i)
	return h >= c.from && h <= c.last && (c.dead || !c.table.of.timed || !c.table.gone(p, i))
}
