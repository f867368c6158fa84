// Package event has the events of Nexmark, an auction house: people join, put
// things up for auction, and bid for them.
//
// An Event is a value. A bid, which 46 of 50 events are, lies in it; the others
// are pointed to. Its text may share memory with that of events made shortly
// before and after: who keeps a little of it for long clones it
// (strings.Clone). Nothing of an event is ever changed.
package event
