package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/sdk"
)

// bug is what is planted in the store's sink.
type bug int

const (
	none bug = iota
	showsAtPrepare
	commitsTwice
	knowsJobsNotLineages
	knowsNoEpochs
	keepsOnlyTheNewestHandle
	fencesNothing
	recoversWithoutCommit
	abortsOthers
	leavesGarbage
	losesPartOfAHandle
	closeDropsPrepared
	keepsTheBatch
	staleRecoverAborts
)

// id is the identity of a transaction.
type id struct {
	Lineage string
	Epoch   uint64
	Subtask int
	Number  int
}

// store is a target in memory that does everything right, but for its bug.
type store struct {
	bug bug
	mu  struct {
		sync.Mutex
		fence     map[string]uint64
		staged    map[id][]int
		committed map[id]bool
		visible   []int
		fail      int
	}
}

func newStore(b bug) *store {
	s := &store{bug: b}
	s.mu.fence, s.mu.staged, s.mu.committed = map[string]uint64{}, map[id][]int{}, map[id]bool{}
	return s
}

var errDown = errors.New("the store is down")

// step is one operation, which may be the one that fails. It is called locked.
func (s *store) step() error {
	if s.mu.fail == 1 {
		return errDown
	}
	if s.mu.fail > 1 {
		s.mu.fail--
	}
	return nil
}

func (s *store) target() Target[int] {
	return Target[int]{
		Sink:   func() sdk.Sink[int] { return &memory{store: s} },
		Record: func(n int) int { return n + 1 },
		Visible: func(context.Context) ([]int, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Clone(s.mu.visible), nil
		},
		Garbage: func(context.Context) (int, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.mu.staged), nil
		},
		Fail: func(n int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.mu.fail = n
		},
	}
}

type memory struct{ store *store }

func (m *memory) Open(_ context.Context, env sdk.SinkEnv) (sdk.Writer[int], error) {
	return &memoryWriter{s: m.store, env: env}, nil
}

func (m *memory) Recover(_ context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	s := m.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if env.Epoch < s.mu.fence[env.Lineage] && s.bug != fencesNothing && s.bug != staleRecoverAborts {
		return sdk.Stale(errors.New("stale"))
	}
	if s.bug != fencesNothing {
		s.mu.fence[env.Lineage] = max(env.Epoch, s.mu.fence[env.Lineage])
	}
	if s.bug != recoversWithoutCommit {
		if err := s.commit(env, handles); err != nil {
			return err
		}
	}
	if s.bug == leavesGarbage {
		return nil
	}
	for x := range s.mu.staged {
		if x.Lineage == env.Lineage && (x.Epoch < env.Epoch || s.bug == staleRecoverAborts && x.Epoch > env.Epoch) || s.bug == abortsOthers {
			if err := s.step(); err != nil {
				return err
			}
			delete(s.mu.staged, x)
		}
	}
	return nil
}

func (m *memory) Commit(_ context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if env.Epoch < m.store.mu.fence[env.Lineage] {
		return sdk.Stale(errors.New("stale"))
	}
	if m.store.bug == keepsOnlyTheNewestHandle && len(handles) > 1 {
		handles = handles[len(handles)-1:]
	}
	return m.store.commit(env, handles)
}

func (s *store) commit(env sdk.SinkEnv, handles []sdk.Handle) error {
	for _, h := range handles {
		var staged, known id
		if err := json.Unmarshal(h.Value, &staged); err != nil {
			return err
		}
		switch known = staged; s.bug {
		case knowsJobsNotLineages:
			known.Lineage = env.JobName
		case knowsNoEpochs:
			known.Epoch = 0
		}
		if s.mu.committed[known] && s.bug != commitsTwice {
			continue
		}
		if err := s.step(); err != nil {
			return err
		}
		rows, ok := s.mu.staged[staged]
		if !ok && s.bug != knowsJobsNotLineages && s.bug != commitsTwice && s.bug != fencesNothing && s.bug != staleRecoverAborts && s.bug != abortsOthers {
			return sdk.Refused(fmt.Errorf("%v is gone", staged))
		}
		if s.bug == losesPartOfAHandle && len(rows) > 2 {
			rows = rows[:len(rows)-1]
		}
		s.mu.visible = append(s.mu.visible, rows...)
		s.mu.committed[known] = true
		if s.bug != commitsTwice && s.bug != knowsJobsNotLineages {
			delete(s.mu.staged, staged)
		}
	}
	return nil
}

type memoryWriter struct {
	s     *store
	env   sdk.SinkEnv
	n     int
	open  []int
	batch []int
}

func (w *memoryWriter) Write(b *sdk.Batch[int]) error {
	if w.s.bug == keepsTheBatch {
		w.batch = b.Values
		return nil
	}
	for _, v := range b.Values {
		w.open = append(w.open, v-1)
	}
	return nil
}

func (w *memoryWriter) Flush() error { return nil }

func (w *memoryWriter) Close() error {
	if w.s.bug == closeDropsPrepared {
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		for x := range w.s.mu.staged {
			if x.Lineage == w.env.Lineage && x.Epoch == w.env.Epoch && x.Subtask == w.env.Subtask {
				delete(w.s.mu.staged, x)
			}
		}
	}
	return nil
}

func (w *memoryWriter) Prepare(uint64) (func(context.Context) ([]byte, error), error) {
	for _, v := range w.batch {
		w.open = append(w.open, v-1)
	}
	w.batch = nil
	rows := w.open
	w.open = nil
	w.n++
	at := id{w.env.Lineage, w.env.Epoch, w.env.Subtask, w.n}
	return func(context.Context) ([]byte, error) {
		if len(rows) == 0 {
			return nil, nil
		}
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		if err := w.s.step(); err != nil {
			return nil, err
		}
		if w.s.mu.fence[w.env.Lineage] > w.env.Epoch {
			return nil, sdk.Stale(errors.New("stale"))
		}
		if w.s.bug == showsAtPrepare {
			w.s.mu.visible = append(w.s.mu.visible, rows...)
		}
		w.s.mu.staged[at] = rows
		return json.Marshal(at)
	}, nil
}

// TestASinkThatIsRightPasses, and each planted bug does not: a suite that finds
// nothing proves nothing.
func TestASinkThatIsRightPasses(t *testing.T) {
	Run(t, func(*testing.T) Target[int] { return newStore(none).target() }, Options{Seeds: 500})
}

func TestEachPlantedBugIsFound(t *testing.T) {
	for b, name := range map[bug]string{
		showsAtPrepare:           "shows records before the commit",
		commitsTwice:             "commits what is committed",
		knowsJobsNotLineages:     "knows transactions by the job, not the lineage",
		knowsNoEpochs:            "knows transactions without their epoch",
		keepsOnlyTheNewestHandle: "commits one of several handles",
		fencesNothing:            "does not fence",
		recoversWithoutCommit:    "recovers without a commit",
		abortsOthers:             "aborts what other lineages staged",
		leavesGarbage:            "does not remove what was aborted",
		losesPartOfAHandle:       "loses part of a transaction",
		closeDropsPrepared:       "drops what was prepared when it closes",
		keepsTheBatch:            "keeps a batch that was lent",
		staleRecoverAborts:       "lets an old recovery abort newer output",
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 200; seed++ {
				if history(t.Context(), newStore(b).target(), seed, Options{Steps: 60}) != nil {
					t.Logf("found by seed %d", seed)
					return
				}
			}
			t.Error("not found in 200 histories")
		})
	}
}

func TestAHistoryIsTheSameEachTime(t *testing.T) {
	tell := func() string {
		err := history(t.Context(), newStore(recoversWithoutCommit).target(), 7, Options{Steps: 60})
		return fmt.Sprint(err)
	}
	if a, b := tell(), tell(); a != b {
		t.Errorf("two runs of one seed differ:\n%s\n%s", a, b)
	}
}
