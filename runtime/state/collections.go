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
	packed[K, V]
	of         *Table[K, V]
	key        K             // what wanted
	wanted     func(*K) bool // compares with
	next, last uint64
	done       bool
	dead       bool // those that have expired come, too
	pages      int
}

// begin makes the cursor one of the hashes from first to last.
func (c *cursor[K, V]) begin(t *Table[K, V], first, last uint64) {
	c.of, c.next, c.last = t, max(first, t.s.base), min(last, t.s.top)
	c.done, c.pages = t.root == nil || c.next > c.last, 0
}

// read replaces what the cursor holds by the entries of the next page whose key
// is one of those wanted, and says whether there was a page. The first page
// comes into memory, the next ones only while there is room.
func (c *cursor[K, V]) read() bool {
	c.reset()
	if c.done {
		return false
	}
	t := c.of
	if c.pages++; c.pages > 1 {
		t.s.Ease()
	}
	p := t.leaf(c.next)
	from := c.next
	if c.done = p.last() >= c.last; !c.done {
		c.next = p.last() + 1
	}
	if p.class == 0 && c.pages > 1 && t.s.tier.over() {
		if err := t.of.open(p, &c.packed); err != nil {
			t.s.tier.raise(t.of.name, err)
		}
		c.sift(from)
		return true
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	for g := range p.groups {
		for m := p.tags(g) & highBits; m != 0; m &= m - 1 {
			i := slotOf(g, m)
			if h := *p.hash(i); h < from || h > c.last || !c.wanted(&t.of.at(p, i).key) {
				continue
			}
			if t.of.timed && !c.dead && t.gone(p, i) {
				continue
			}
			if t.owning && len(t.s.layers) > 0 {
				p = t.own(p, i)
			}
			s := t.of.at(p, i)
			c.hashes, c.keys, c.values = append(c.hashes, *p.hash(i)), append(c.keys, s.key), append(c.values, s.val)
		}
	}
	return true
}

// sift keeps what was asked for of a page that was read from the disk.
func (c *cursor[K, V]) sift(from uint64) {
	n := 0
	for i, h := range c.hashes {
		if h < from || h > c.last || !c.wanted(&c.keys[i]) || c.of.of.timed && !c.dead && c.of.of.life.over(c.ages[i], c.of.time()) {
			continue
		}
		c.hashes[n], c.keys[n], c.values[n] = h, c.keys[i], c.values[i]
		n++
	}
	clear(c.keys[n:])
	clear(c.values[n:])
	c.hashes, c.keys, c.values = c.hashes[:n], c.keys[:n], c.values[:n]
}
