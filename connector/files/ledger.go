package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/sdk"
)

// ledger is what is known of one sink of one lineage: the object
// .staged/<id>/ledger, changed by compare-and-swap only.
//
//  1. Fence never falls. Nobody of a lower epoch changes the ledger.
//  2. A transaction enters Committed while all of its parts are staged. From
//     then on it is committed: whoever finds a part of it staged moves it.
//  3. A staged part is moved only after its transaction has entered.
//  4. A staged part of a transaction that has not entered is removed only after
//     Fence has passed its epoch, so that it cannot enter any more.
type ledger struct {
	Version int    `json:"version"`
	Lineage string `json:"lineage"`
	Sink    string `json:"sink"`
	Fence   uint64 `json:"fence"`
	// Committed has, by epoch and subtask, the highest number that is
	// committed: numbers are committed in order.
	Committed map[uint64]map[uint64]uint64 `json:"committed"`
	// Forgotten is the highest epoch that Committed no longer tells of: of that
	// and lower ones, what is not staged was committed.
	Forgotten uint64 `json:"forgotten,omitempty"`
}

const (
	ledgerVersion = 1
	// epochs is how many epochs a ledger remembers one by one.
	epochs = 64
	// swapTries is how often a swap is tried that meets another's.
	swapTries = 20
)

func (l *ledger) has(h *handle) bool {
	return l.Committed[h.epoch][h.subtask] >= h.number
}

func (l *ledger) enter(h *handle) {
	if l.Committed == nil {
		l.Committed = map[uint64]map[uint64]uint64{}
	}
	if l.Committed[h.epoch] == nil {
		l.Committed[h.epoch] = map[uint64]uint64{}
	}
	l.Committed[h.epoch][h.subtask] = max(h.number, l.Committed[h.epoch][h.subtask])
	for len(l.Committed) > epochs {
		oldest := slices.Min(slices.Collect(maps.Keys(l.Committed)))
		delete(l.Committed, oldest)
		l.Forgotten = max(l.Forgotten, oldest)
	}
}

// change reads the ledger of a sink, lets f change it, and writes it, again when
// another has written meanwhile. f says whether there is something to write.
func change(ctx context.Context, b blob.Bucket, lineage, uid string, f func(*ledger) (bool, error)) error {
	key := ledgerKey(idOf(lineage, uid))
	for range swapTries {
		l := ledger{Version: ledgerVersion, Lineage: lineage, Sink: uid}
		data, version, err := b.Get(ctx, key, 0, -1)
		switch {
		case errors.Is(err, blob.ErrNotFound):
			version = ""
		case err != nil:
			return err
		default:
			if err := json.Unmarshal(data, &l); err != nil {
				return sdk.Refused(fmt.Errorf("%s does not parse: %w", key, err))
			}
			if l.Version != ledgerVersion || l.Lineage != lineage || l.Sink != uid {
				return sdk.Refused(fmt.Errorf("%s is of version %d, lineage %s, sink %s; it should be of version %d, lineage %s, sink %s",
					key, l.Version, l.Lineage, l.Sink, ledgerVersion, lineage, uid))
			}
		}
		write, err := f(&l)
		if err != nil || !write {
			return err
		}
		if data, err = json.Marshal(&l); err != nil {
			return err
		}
		if version == "" {
			_, err = b.PutIfAbsent(ctx, key, data)
		} else {
			_, err = b.CompareAndSwap(ctx, key, version, data)
		}
		if !errors.Is(err, blob.ErrExists) && !errors.Is(err, blob.ErrConflict) && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return fmt.Errorf("%s was changed by others each of %d times: is the job run twice?", key, swapTries)
}
