package generator

import (
	"strings"
	"unsafe"

	"github.com/millrace/millrace/examples/nexmark/event"
)

const (
	// Base is the event time of event 0: 2026-01-01T00:00:00Z.
	Base = 1767225600000
	// group is the number of events that hold one person and three auctions.
	group = 50
	// inFlight is about how many events an auction lives.
	inFlight = 1666

	firstID   = 1000
	category  = 10
	activeMax = 1000
)

// Clock tells the event time of events, by their number.
type Clock struct {
	// Rate is the number of events in a second of event time.
	Rate uint64
}

// Time is the event time of event n in milliseconds.
func (c Clock) Time(n uint64) int64 { return Base + int64(n*1000/c.Rate) }

// Generator makes the events of one seed and rate. It belongs to one goroutine.
type Generator struct {
	Clock
	seed     uint64
	channels *Channels
	slab     []byte
	used     int
	run      run
	people   []event.Person
	auctions []event.Auction
}

// New returns a generator of a seed, with that seed's channels.
func New(seed uint64, rate int, channels *Channels) *Generator {
	return &Generator{Clock: Clock{uint64(rate)}, seed: seed, channels: channels}
}

// Slabs hold what many events share. Go takes a lock for all to allocate one of
// text, which larger ones do less often, but each split of a source has its own.
const (
	slabSize = 128 << 10
	slabOf   = 32
	// mostText is more than the text of any event, an auction's 617 letters,
	// and the rest of its last block.
	mostText = 1024
	// extraDraw is where the letters of an extra text begin, bidDraws the draws of a
	// bid's.
	extraDraw = 120
	bidDraws  = 7
)

// room is what is left of the slab, which has room for the text of any event.
func (g *Generator) room() []byte {
	if len(g.slab)-g.used < mostText {
		g.slab, g.used = newSlab(), 0
	}
	return g.slab[g.used:]
}

// newSlab is a slab whose bytes are not set to zero first, which is how a
// strings.Builder grows.
func newSlab() []byte {
	var b strings.Builder
	b.Grow(slabSize)
	b.WriteByte(0)
	return unsafe.Slice(unsafe.StringData(b.String()), slabSize)
}

// take cuts the first n bytes off what is left of the slab: they are never
// written again. It moves no pointer, as the collector would have to be told.
func (g *Generator) take(n int) string {
	s := unsafe.String(&g.slab[g.used], n)
	g.used += n
	return s
}

func (g *Generator) text(e, k uint64, n int) string {
	return g.take(write(g.slab[g.used:], e, k, n))
}

func (g *Generator) word(e, k uint64, most uint32) string {
	return g.take(word(g.slab[g.used:], e, k, most))
}

// Make makes event n, whose time must be at, in ev.
func (g *Generator) Make(ev *event.Event, n uint64, at int64) {
	g.run.begin(g.seed+(n+1)*golden, 0, 1)
	g.row(ev, n, at, g.run.states[0], &g.run.draws[0])
}

// MakeAll makes the events n, n+step and so on, whose times must be at. That is
// quicker than one by one: the draws of one event need not wait for another.
func (g *Generator) MakeAll(events []event.Event, at []int64, n, step uint64) {
	for len(events) > 0 {
		count := min(len(events), lanes)
		g.run.begin(g.seed+(n+1)*golden, step*golden, count)
		for i := range count {
			g.row(&events[i], n, at[i], g.run.states[i], &g.run.draws[i])
			n += step
		}
		events, at = events[count:], at[count:]
	}
}

// row makes event n of its state and first draws.
func (g *Generator) row(ev *event.Event, n uint64, at int64, e uint64, d *[lanes]uint64) {
	ev.Number = int64(n)
	p := n / group
	switch o := n % group; o {
	case 0:
		ev.Kind, ev.Bid, ev.Auction = event.IsPerson, event.Bid{}, nil
		ev.Person = g.person(e, p, at, d)
	case 1, 2, 3:
		ev.Kind, ev.Bid, ev.Person = event.IsAuction, event.Bid{}, nil
		ev.Auction = g.auction(e, n, p, 3*p+o-1, at, d)
	default:
		ev.Kind = event.IsBid
		// Most rows held a bid before: writing a pointer costs more than a look.
		if ev.Auction != nil || ev.Person != nil {
			ev.Auction, ev.Person = nil, nil
		}
		g.bid(&ev.Bid, e, p, 3*p+2, at, d)
	}
}

// somePerson draws one of the last thousand people, or of the ten to come, when
// p is the newest.
func somePerson(r, p uint64) uint64 {
	if p >= activeMax-1 {
		return p + 1 - activeMax + uint64(below(r, activeMax+10))
	}
	return uint64(below(r, uint32(p)+11))
}

// someAuction draws one of the last hundred auctions, or of the ten to come,
// when a is the newest.
func someAuction(r, a uint64) uint64 {
	if a >= 100 {
		return a - 100 + uint64(below(r, 111))
	}
	return uint64(below(r, uint32(a)+11))
}

func (g *Generator) bid(b *event.Bid, e, p, a uint64, at int64, d *[lanes]uint64) {
	// As many draws whatever the length: that is cheaper than a branch which
	// cannot be foreseen.
	if dst := g.room(); wide {
		spellWide(&dst[:block][0], e+extraDraw*golden%(1<<64), 1)
	} else {
		spell(dst[:bidDraws*perDraw], e, extraDraw)
	}
	auction := either(d[0]>>33&1, someAuction(d[1], a), a/100*100)
	bidder := either((d[2]>>33|d[2]>>34)&1, somePerson(d[3], p), p/100*100+1)
	channel := either(d[5]>>33&1, uint64(len(hot))+uint64(below(d[6], cold)), uint64(below(d[6], uint32(len(hot)))))
	b.Auction, b.Bidder, b.Price, b.DateTime = int64(firstID+auction), int64(firstID+bidder), price(d[4]), at

	// Pointers are written side by side: the collector is asked once.
	name, url := g.channels.channel(channel)
	text := g.take(54 + int(below(d[7], 28)))
	b.Channel, b.URL, b.Extra = name, url, text
}

var (
	first  = [...]string{"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"}
	last   = [...]string{"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"}
	cities = [...]string{"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"}
	states = [...]string{"AZ", "CA", "ID", "OR", "WA", "WY"}
)

func (g *Generator) person(e, p uint64, at int64, d *[lanes]uint64) *event.Person {
	if len(g.people) == 0 {
		g.people = make([]event.Person, slabOf)
	}
	v := &g.people[0]
	g.people = g.people[1:]
	g.room()
	v.ID, v.DateTime = int64(firstID+p), at
	v.City, v.State = cities[below(d[6], uint32(len(cities)))], states[below(d[7], uint32(len(states)))]
	v.Extra = g.text(e, extraDraw, 60+int(below(draw(e, 8), 80)))

	dst := g.slab[g.used:]
	n := copy(dst, first[below(d[0], uint32(len(first)))])
	dst[n] = ' '
	n += 1 + copy(dst[n+1:], last[below(d[1], uint32(len(last)))])
	v.Name, dst = g.take(n), dst[n:]

	n = word(dst, e, 100, 7)
	dst[n] = '@'
	n += 1 + word(dst[n+1:], e, 110, 5)
	n += copy(dst[n:], ".com")
	v.EmailAddress, dst = g.take(n), dst[n:]

	n = 0
	for _, r := range d[2:6] {
		four := below(r, 10000)
		dst[n], dst[n+1] = byte('0'+four/1000), byte('0'+four/100%10)
		dst[n+2], dst[n+3], dst[n+4] = byte('0'+four/10%10), byte('0'+four%10), ' '
		n += 5
	}
	v.CreditCard = g.take(n - 1)
	return v
}

func (g *Generator) auction(e, n, p, a uint64, at int64, d *[lanes]uint64) *event.Auction {
	if len(g.auctions) == 0 {
		g.auctions = make([]event.Auction, slabOf)
	}
	v := &g.auctions[0]
	g.auctions = g.auctions[1:]
	g.room()
	v.ID, v.DateTime = int64(firstID+a), at
	v.Extra = g.text(e, extraDraw, 300+int(below(d[6], 200)))
	v.ItemName, v.Description = g.word(e, 100, 20), g.word(e, 110, 100)
	v.InitialBid = price(d[0])
	v.Reserve = v.InitialBid + price(d[1])
	life := uint32(g.Time(n+inFlight) - at)
	v.Expires = at + 1 + int64(below(d[2], max(2*life, 1)))
	seller := somePerson(d[4], p)
	if below(d[3], 4) > 0 {
		seller = p / 100 * 100
	}
	v.Seller, v.Category = int64(firstID+seller), category+int64(below(d[5], 5))
	return v
}
