package state

import (
	"fmt"
	"math"
	"time"
)

// TTL is how long entries of a state live after they were last used: set,
// changed or, with OnRead, read. An entry that has expired is as if it had been
// deleted. The zero TTL is for ever.
//
// The time of a call is, in event time, that of the record or timer in hand, or
// the one that the operator has reached if that is later; in processing time it
// is the clock's, which is read every few records. An entry of time t has
// expired for calls from t + For on, to the millisecond.
//
// Expired entries are removed bit by bit while records come and at barriers; how
// many are still there at a time is no promise, but none is ever returned or
// counted.
type TTL struct {
	For time.Duration
	// Processing takes the clock's time instead of event time.
	Processing bool
	OnRead     bool
}

// domain is a kind of time.
type domain uint8

const (
	eventTime domain = iota
	processingTime
	domains
)

// String is the domain's name in declarations.
func (d domain) String() string {
	if d == processingTime {
		return "processing"
	}
	return "event"
}

// unknownTime is the time before the first one, and the age of entries that came
// from a checkpoint without: they live until they are looked at, and from then on
// are as old as they were looked at.
const unknownTime int64 = math.MinInt64

var unknownTimes = [domains]int64{unknownTime, unknownTime}

// lifetime is a TTL as tables use it.
type lifetime struct {
	span   uint64 // milliseconds, 0 for ever
	domain domain
	onRead bool
}

func lifetimeOf(ttl []TTL) (lifetime, error) {
	switch {
	case len(ttl) == 0 || ttl[0] == TTL{}:
		return lifetime{}, nil
	case len(ttl) > 1:
		return lifetime{}, fmt.Errorf("%d times to live: give one", len(ttl))
	case ttl[0].For < time.Millisecond:
		return lifetime{}, fmt.Errorf("a time to live of %v: it must be at least 1ms", ttl[0].For)
	}
	l := lifetime{span: uint64(ttl[0].For.Milliseconds()), onRead: ttl[0].OnRead}
	if ttl[0].Processing {
		l.domain = processingTime
	}
	return l, nil
}

// over says whether an entry has expired at a time.
func (l *lifetime) over(age, at int64) bool {
	return at > age && uint64(at)-uint64(age) >= l.span && age != unknownTime
}

// UseClock gives the store the clock for states that expire in processing time.
// It is called before tables are made.
func (s *Store) UseClock(now func() time.Time) { s.clock = now }

// Aging says whether the store has states that expire in event time, so that
// somebody must call SetEventTime and Passed.
func (s *Store) Aging() bool { return s.aged[eventTime] }

// SetEventTime says what time it is for the calls that follow: that of the
// record or timer in hand, or the event time that the operator has reached if that
// is later.
func (s *Store) SetEventTime(t int64) { s.now[eventTime] = t }

// Passed says that no later call of SetEventTime comes with an earlier time. The
// end of time does not count, for a job may go on after a drain.
func (s *Store) Passed(t int64) {
	if t > s.passed[eventTime] && t != math.MaxInt64 {
		s.passed[eventTime] = t
	}
}

// Tick reads the clock, if there is use for it. Ahead does, too.
func (s *Store) Tick() {
	if s.aged[processingTime] && s.clock != nil {
		t := max(s.clock().UnixMilli(), s.now[processingTime]) // it never goes back
		s.now[processingTime], s.passed[processingTime] = t, t
	}
}

// time is that of the call.
func (t *Table[K, V]) time() int64 { return t.s.now[t.of.life.domain] }

// gone says whether an entry has expired.
func (t *Table[K, V]) gone(p *page, i uint32) bool { return t.of.life.over(*p.age(i), t.time()) }

// Live is Get of an entry that has not expired. Where entries live on when they
// are read, it is a use.
func (t *Table[K, V]) Live(hash uint64, key K) (*V, bool) {
	if !t.of.timed {
		return t.Get(hash, key)
	}
	p := t.leaf(hash)
	if p == nil {
		return nil, false
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	i, ok := t.find(p, hash, &key)
	if !ok || t.gone(p, i) {
		return nil, false
	}
	if now := t.time(); t.of.life.onRead && now > *p.age(i) {
		p = t.use(p, i, now)
	}
	if t.owning && len(t.s.layers) > 0 {
		p = t.own(p, i)
	}
	return &t.of.at(p, i).val, true
}

// alive says whether a key has a value that has not expired; that is no use of it.
func (t *Table[K, V]) alive(hash uint64, key K) bool {
	p := t.leaf(hash)
	if p == nil {
		return false
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	i, ok := t.find(p, hash, &key)
	return ok && !(t.of.timed && t.gone(p, i))
}

// use marks an entry as used, and returns the page that has it now.
func (t *Table[K, V]) use(p *page, i uint32, at int64) *page {
	if p.epoch != t.s.epoch {
		p = t.touch(p) // slots keep their places
	}
	*p.dirtyWord(i) |= 1 << (i & 63)
	t.of.stamp(p, i, at)
	return p
}

// Renew is Upsert and a use of the entry. One that has expired is removed first,
// and comes again fresh.
func (t *Table[K, V]) Renew(hash uint64, key K) (v *V, fresh bool) {
	if !t.of.timed {
		return t.Upsert(hash, key)
	}
	p := t.leaf(hash)
	if p == nil {
		p = t.plant()
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	if p.epoch != t.s.epoch {
		p = t.touch(p)
	}
	i, ok := t.find(p, hash, &key)
	if ok && t.gone(p, i) {
		t.expire(p, i)
		ok = false
	}
	if !ok {
		return t.insert(p, hash, &key), true
	}
	// A record out of order does not make an entry older.
	p = t.use(p, i, max(t.time(), *p.age(i)))
	if t.owning {
		p = t.own(p, i)
	}
	return &t.of.at(p, i).val, false
}

// reap removes the value of a key if it has expired.
func (t *Table[K, V]) reap(hash uint64, key K) {
	if !t.of.timed {
		return
	}
	p := t.leaf(hash)
	if p == nil {
		return
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	if i, ok := t.find(p, hash, &key); ok && t.gone(p, i) {
		if p.epoch != t.s.epoch {
			p = t.touch(p)
		}
		t.expire(p, i)
	}
}

// expire removes an entry, of a page of this epoch.
func (t *Table[K, V]) expire(p *page, i uint32) {
	hash, key := *p.hash(i), t.of.at(p, i).key
	t.remove(p, i, hash)
	if t.expired != nil {
		t.expired(hash, &key)
	}
}

// setAge sets the age of an entry that there is, of a page of this epoch.
func (t *Table[K, V]) setAge(hash uint64, key *K, age int64) {
	p := t.leaf(hash)
	if i, ok := t.find(p, hash, key); ok {
		t.of.stamp(p, i, age)
	}
}
