package state

import (
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"
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
func (t *table) time() int64 { return t.s.now[t.of.life.domain] }

// gone says whether an entry has expired.
func (t *table) gone(p *page, i uint32) bool { return t.of.life.over(*p.age(i), t.time()) }

// read makes a value that was found ready for reading, and returns the page that
// has it now. Where entries live on when they are read, it is a use.
func (t *table) read(p *page, i uint32) *page {
	if now := t.time(); t.of.life.onRead && now > *p.age(i) {
		p = t.use(p, i, now)
	}
	return t.found(p, i)
}

// use marks an entry as used, and returns the page that has it now.
func (t *table) use(p *page, i uint32, at int64) *page {
	if p.epoch != t.s.epoch {
		p = t.touch(p) // slots keep their places
	}
	*p.dirtyWord(i) |= 1 << (i & 63)
	t.of.stamp(p, i, at)
	return p
}

// renewed is changed and a use. A record out of order does not make an entry older.
func (t *table) renewed(p *page, i uint32) *page {
	return t.changed(t.use(p, i, max(t.time(), *p.age(i))), i)
}

// OnExpire says that what other tables have for a key lives as long as the entry
// here: f removes it, and says how many entries those were. It is called with each
// key that expires, at any call of Renew, between records and at barriers, and
// must not use this table. So the key and all that belongs to it are there, or
// gone, at every barrier. What is Deleted has not expired.
func (t *Table[K, V]) OnExpire(f func(hash uint64, key K) int) {
	t.of.counted = true
	t.expired = func(hash uint64, key unsafe.Pointer) int { return f(hash, *(*K)(key)) }
}

// expire removes an entry, of a page of this epoch, and says how many others
// have gone with it.
func (t *table) expire(p *page, i uint32) (others int) {
	if t.expired == nil {
		t.remove(p, i)
		return 0
	}
	k := t.of
	if k.gone == nil {
		k.gone = reflect.New(k.key).UnsafePointer()
	}
	hash := *p.hash(i)
	k.moveKeys(k.gone, k.at(p, i), 1)
	t.remove(p, i)
	t.s.busy = true
	others = t.expired(hash, k.gone)
	t.s.busy = false
	return others
}

// setAge sets the age of an entry that there is, of a page of this epoch.
func (t *table) setAge(hash uint64, key unsafe.Pointer, age int64) {
	p := t.leaf(hash)
	if i, ok := t.find(p, hash, key); ok {
		t.of.stamp(p, i, age)
	}
}
