package state

// Expired entries are removed by brooms. A broom goes through the pages of its
// table, a few of them every Stride of records and some more at a barrier. It
// looks at one word of a page, a lower bound of its ages, which says whether
// anything in it has expired; so does the stub of a page on the disk, which is
// read only then. From the beginning of a round to that of the next a good part
// of the time to live passes, so that brooms are mostly idle where it is long,
// and what has expired and is still there stays a fraction of what lives.

const (
	// sweptAStride is how many pages brooms look at every Stride of records,
	// sweptAtBarrier at a barrier.
	sweptAStride   = 4
	sweptAtBarrier = 256
	// readCosts is for how many pages one counts that comes from the disk.
	readCosts = 8
	// othersAtOnce is how many entries of other tables may go along with those of
	// a page; then the page is looked at again later.
	othersAtOnce = 1024
	// roundsALife is how many rounds there are in a time to live.
	roundsALife = 4
)

// broom is that of one table.
type broom struct {
	of   *table
	life lifetime
	// due is the time from which on the next round may begin. In a round, at
	// is the hash that comes next.
	due   int64
	round bool
	at    uint64
}

// between is a moment between records.
func (s *Store) between() {
	s.Ease()
	if len(s.aging) > 0 {
		s.Tick()
		s.sweep(sweptAStride)
	}
}

// sweep lets the brooms look at some pages.
func (s *Store) sweep(budget int) {
	for _, b := range s.aging {
		now := s.passed[b.life.domain]
		if !b.round && (now < b.due || now == unknownTime) {
			continue
		}
		if !b.round {
			b.round, b.at, b.due = true, 0, now+max(1, int64(b.life.span/roundsALife))
		}
		for budget > 0 {
			var done bool
			if b.at, budget, done = b.of.sweep(b.at, budget); done {
				b.round = false
				break
			}
		}
	}
}

// sweep removes what has expired from pages from a hash on, until budget pages
// were looked at.
func (t *table) sweep(from uint64, budget int) (next uint64, left int, done bool) {
	if t.root == nil {
		return 0, budget, true
	}
	at := t.s.passed[t.of.life.domain]
	for from = max(from, t.s.base); budget > 0; budget-- {
		p := t.leaf(from)
		oldest := int64(p.owned) // of a stub
		if p.class > 0 {
			oldest = *p.oldest()
		}
		last := p.last()
		if p.live > 0 && (oldest == unknownTime || t.of.life.over(oldest, at)) {
			if p.class == 0 {
				budget -= readCosts
			}
			if !t.clean(p, at) {
				return from, 0, false
			}
		}
		if last >= t.s.top {
			return 0, budget, true
		}
		from = last + 1
	}
	return from, budget, false
}

// clean removes the entries of a page that have expired, and gives those an age
// that have none; done says that it has looked at all.
func (t *table) clean(p *page, at int64) (done bool) {
	if p.groups == 0 {
		p = t.awake(p)
	}
	oldest, others := int64(1<<63-1), 0
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		if others >= othersAtOnce {
			return false
		}
		switch age := *p.age(i); {
		case age == unknownTime:
			p = t.use(p, i, at)
			oldest = min(oldest, at)
		case t.of.life.over(age, at):
			if p.epoch != t.s.epoch {
				p = t.touch(p)
			}
			others += t.expire(p, i)
		default:
			oldest = min(oldest, age)
		}
	}
	*p.oldest() = oldest
	if p.epoch == t.s.epoch && p.sparse() {
		t.shrink(p)
	}
	return true
}
