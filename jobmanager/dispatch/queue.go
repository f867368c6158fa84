package dispatch

import (
	"context"
	"sync"
)

// queue hands values to one taker. put is for values whose number is bounded by
// what the taker itself asked for (answers to actions, grants); offer is for
// those that others decide to send, and waits while limit values are queued.
type queue[T any] struct {
	limit int
	// ready and space hold a token when there may be something to take, or
	// room to offer into.
	ready, space chan struct{}
	mu           struct {
		sync.Mutex
		items []T
	}
}

func newQueue[T any](limit int) *queue[T] {
	return &queue[T]{limit: limit, ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (q *queue[T]) put(v T) {
	q.mu.Lock()
	q.mu.items = append(q.mu.items, v)
	q.mu.Unlock()
	signal(q.ready)
}

// offer returns false when ctx ended or done was closed before there was room.
func (q *queue[T]) offer(ctx context.Context, done <-chan struct{}, v T) bool {
	for {
		q.mu.Lock()
		if len(q.mu.items) < q.limit {
			q.mu.items = append(q.mu.items, v)
			room := len(q.mu.items) < q.limit
			q.mu.Unlock()
			signal(q.ready)
			if room {
				signal(q.space) // for another who waits
			}
			return true
		}
		q.mu.Unlock()
		select {
		case <-q.space:
		case <-done:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// tryOffer is offer that does not wait.
func (q *queue[T]) tryOffer(v T) bool {
	q.mu.Lock()
	room := len(q.mu.items) < q.limit
	if room {
		q.mu.items = append(q.mu.items, v)
	}
	q.mu.Unlock()
	if room {
		signal(q.ready)
	}
	return room
}

// take returns all that is queued, in order.
func (q *queue[T]) take() []T {
	q.mu.Lock()
	items := q.mu.items
	q.mu.items = nil
	q.mu.Unlock()
	signal(q.space)
	return items
}
