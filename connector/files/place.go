package files

import (
	"context"
	"sync"

	"github.com/millrace/millrace/blob"
)

// place is an open bucket that all writers and commits of this process share,
// counted: opening one costs probes of the file system or the store.
type place struct {
	blob.Bucket
	location string
	users    int
}

var places struct {
	sync.Mutex
	open map[string]*place
}

// enter returns the bucket at a location; release gives it back.
func enter(ctx context.Context, location string) (*place, error) {
	if p := join(location); p != nil {
		return p, nil
	}
	b, err := blob.Open(ctx, location)
	if err != nil {
		return nil, err
	}
	places.Lock()
	p := places.open[location]
	if p == nil {
		p = &place{Bucket: b, location: location}
		if places.open == nil {
			places.open = map[string]*place{}
		}
		places.open[location] = p
		b = nil
	}
	p.users++
	places.Unlock()
	if b != nil { // another was faster
		return p, b.Close()
	}
	return p, nil
}

func join(location string) *place {
	places.Lock()
	defer places.Unlock()
	p := places.open[location]
	if p != nil {
		p.users++
	}
	return p
}

// release closes the bucket when nobody else uses it. Closing does I/O, so it is
// done without the lock.
func (p *place) release() error {
	places.Lock()
	p.users--
	last := p.users == 0
	if last {
		delete(places.open, p.location)
	}
	places.Unlock()
	if !last {
		return nil
	}
	return p.Close()
}
