package snapshot

import "slices"

// chain is what the runs of a chain are to each other.
type chain struct {
	readers []*Reader // oldest first
	rank    [][]int   // of a reader's state, its place among all names
	names   []string
	hides   map[place][]int // readers whose drops name a place
	newest  int             // reader of a full run, -1 if there is none

	// The drops of the place of the last entry, looked up once a place.
	at      place
	atKnown bool
	atHides []int
}

// place is a namespace of a state.
type place struct {
	state int
	ns    int64
}

func chainOf(readers []*Reader) chain {
	c := chain{readers: readers, hides: map[place][]int{}, newest: -1}
	for _, r := range readers {
		c.names = append(c.names, r.names...)
	}
	slices.Sort(c.names)
	c.names = slices.Compact(c.names)
	for i, r := range readers {
		if r.full {
			c.newest = i
		}
		rank := make([]int, len(r.names))
		for j, name := range r.names {
			rank[j], _ = slices.BinarySearch(c.names, name)
		}
		c.rank = append(c.rank, rank)
		for _, d := range r.drops {
			state, _ := slices.BinarySearch(c.names, d.State)
			p := place{state, d.Namespace}
			c.hides[p] = append(c.hides[p], i)
		}
	}
	return c
}

// hidden says whether a run newer than i hides its entry at p.
func (c *chain) hidden(i int, p place, group int) bool {
	for j := i + 1; j <= c.newest; j++ {
		if c.readers[j].full && c.readers[j].speaksFor(group) {
			return true
		}
	}
	if len(c.hides) == 0 {
		return false
	}
	if !c.atKnown || c.at != p {
		c.at, c.atKnown, c.atHides = p, true, c.hides[p]
	}
	for _, h := range c.atHides {
		if h > i && c.readers[h].speaksFor(group) {
			return true
		}
	}
	return false
}
