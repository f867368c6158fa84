package task

import (
	"sync"
	"sync/atomic"
)

// signal is a reason to look up from the records: the loop loads all of them
// with one atomic read a batch.
type signal uint32

const (
	mailed signal = 1 << iota
	woken
	counted
	pressing
	cancelled
)

// signals are set by any goroutine and taken by the task's. Whoever sets one
// also notifies, so a parked task sees it.
type signals struct {
	bits   atomic.Uint32
	notify chan struct{}
}

func (s *signals) set(bit signal) {
	s.bits.Or(uint32(bit))
	select {
	case s.notify <- struct{}{}:
	default:
	}
}

func (s *signals) get() signal { return signal(s.bits.Load()) }

// take clears one signal and says whether it was set.
func (s *signals) take(bit signal) bool {
	return signal(s.bits.And(^uint32(bit)))&bit != 0
}

// mailbox holds what other goroutines want the task to do. Its length is
// bounded by its users: a handful of commands a checkpoint, and operators that
// mail at most once until their mail was read.
type mailbox struct {
	mu struct {
		sync.Mutex
		letters []letter
	}
	spare []letter
	// halted is the task's: operators' letters are thrown away, for what they
	// do belongs after the barrier.
	halted bool
}

type letter struct {
	f          func() error
	ofOperator bool
}

func (m *mailbox) put(l letter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.letters = append(m.mu.letters, l)
}

// run runs what is there, in order, on the task's goroutine. What comes
// meanwhile waits for the next round.
func (m *mailbox) run() error {
	m.mu.Lock()
	letters := m.mu.letters
	m.mu.letters = m.spare[:0]
	m.mu.Unlock()
	for i, l := range letters {
		letters[i] = letter{}
		if l.ofOperator && m.halted {
			continue
		}
		if err := l.f(); err != nil {
			return err
		}
	}
	m.spare = letters
	return nil
}
