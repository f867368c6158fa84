package outlet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/internal/planted"
)

// Batch is what one commit made visible.
type Batch struct {
	Epoch, Checkpoint uint64
	// Parts are the rows of each transaction and subtask, encoded, in order.
	Parts [][]byte
}

// Counts are what a store has seen.
type Counts struct {
	Fences, Stages, Commits, Again uint64
	// Refused are requests of epochs that were over, by operation.
	Refused map[string]uint64
}

// Store holds staged and committed transactions.
type Store struct {
	// visible is called with each commit, in order, under the lock of the store.
	visible func(Batch)

	mu struct {
		sync.Mutex
		sinks  map[sinkID]*sink
		counts Counts
		broken error
	}
}

type sinkID struct{ lineage, sink string }

type transaction struct {
	epoch, number uint64
	subtask       int
}

type sink struct {
	fence  uint64
	newest uint64 // checkpoint that was committed last
	staged map[transaction][][]byte
	done   map[transaction]Handle
}

// NewStore returns an empty store.
func NewStore(visible func(Batch)) *Store {
	s := &Store{visible: visible}
	s.mu.sinks = map[sinkID]*sink{}
	s.mu.counts.Refused = map[string]uint64{}
	return s
}

// Broken is the first thing that a correct system never does.
func (s *Store) Broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.broken
}

// Counts says what was seen so far.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.mu.counts
	c.Refused = maps.Clone(c.Refused)
	return c
}

// Do answers one request.
func (s *Store) Do(r *Request) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := sinkID{r.Lineage, r.Sink}
	k := s.mu.sinks[id]
	if k == nil {
		k = &sink{staged: map[transaction][][]byte{}, done: map[transaction]Handle{}}
		s.mu.sinks[id] = k
	}
	if r.Epoch < k.fence && !planted.EpochNotChecked {
		s.mu.counts.Refused[r.Op.String()]++
		return Answer{Stale: true, Err: fmt.Sprintf("%v of epoch %d, the sink is at epoch %d", r.Op, r.Epoch, k.fence)}
	}
	var err error
	switch r.Op {
	case Fence:
		err = s.fence(k, r)
	case Stage:
		err = s.stage(k, r)
	case Commit:
		err = s.commit(k, r)
	default:
		err = fmt.Errorf("%v is unknown", r.Op)
	}
	if err != nil {
		if s.mu.broken == nil {
			s.mu.broken = err
		}
		return Answer{Err: err.Error()}
	}
	return Answer{}
}

// fence ends older epochs, commits what the restored checkpoint prepared and
// drops the rest.
func (s *Store) fence(k *sink, r *Request) error {
	s.mu.counts.Fences++
	if r.Checkpoint < k.newest {
		return fmt.Errorf("metadata: epoch %d restores checkpoint %d, and %d was committed", r.Epoch, r.Checkpoint, k.newest)
	}
	k.fence = r.Epoch
	if err := s.commit(k, r); err != nil {
		return err
	}
	clear(k.staged)
	return nil
}

func (s *Store) stage(k *sink, r *Request) error {
	s.mu.counts.Stages++
	if r.Epoch != k.fence {
		return fmt.Errorf("contract: epoch %d stages before its fence, the sink is at epoch %d", r.Epoch, k.fence)
	}
	t := transaction{r.Epoch, r.Transaction, r.Subtask}
	if _, done := k.done[t]; done {
		return fmt.Errorf("contract: transaction %+v is staged after its commit", t)
	}
	switch blocks := k.staged[t]; {
	case r.Block == len(blocks):
		k.staged[t] = append(blocks, r.Rows)
	case r.Block < len(blocks) && string(blocks[r.Block]) == string(r.Rows): // sent again
	default:
		return fmt.Errorf("contract: block %d of transaction %+v comes after %d blocks, or with other rows", r.Block, t, len(blocks))
	}
	return nil
}

func (s *Store) commit(k *sink, r *Request) error {
	batch := Batch{Epoch: r.Epoch, Checkpoint: r.Checkpoint}
	handles := slices.SortedFunc(slices.Values(r.Handles), func(a, b Handle) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Transaction, b.Transaction), cmp.Compare(a.Subtask, b.Subtask))
	})
	again := 0
	for _, h := range handles {
		t := transaction{h.Epoch, h.Transaction, h.Subtask}
		if _, done := k.done[t]; done {
			again++
			continue
		}
		blocks := k.staged[t]
		n := 0
		for _, b := range blocks {
			n += len(b)
		}
		if len(blocks) != h.Blocks || n != h.Rows {
			return fmt.Errorf("lost: checkpoint %d names %d bytes in %d blocks of transaction %+v, %d in %d are staged",
				r.Checkpoint, h.Rows, h.Blocks, t, n, len(blocks))
		}
		batch.Parts = append(batch.Parts, slices.Concat(blocks...))
	}
	if again > 0 && again < len(handles) {
		return fmt.Errorf("atomicity: of the %d transactions of checkpoint %d, %d were committed before", len(handles), r.Checkpoint, again)
	}
	if again == len(handles) {
		s.mu.counts.Again++
		return nil
	}
	if r.Checkpoint <= k.newest {
		return fmt.Errorf("metadata: checkpoint %d is committed after %d", r.Checkpoint, k.newest)
	}
	k.newest = r.Checkpoint
	for _, h := range handles {
		t := transaction{h.Epoch, h.Transaction, h.Subtask}
		k.done[t] = h
		delete(k.staged, t)
	}
	s.mu.counts.Commits++
	s.visible(batch)
	return nil
}
