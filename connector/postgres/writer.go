package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/sdk"
)

const (
	// chunkBytes is how much is sent with one COPY.
	chunkBytes = 1 << 20
	// chunksAhead is how many wait while one is sent; then Write waits.
	chunksAhead  = 2
	closeTimeout = 2 * time.Second
)

// writer is one subtask's. The task encodes; a goroutine sends, chunk after
// chunk, and owns the session.
type writer[T any] struct {
	Rows[T]
	env    sdk.SinkEnv
	stage  string
	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup
	chunks chan chunk
	self   uint64

	buf    []byte
	rows   uint64 // of the running transaction, those in buf included
	first  uint64 // row with which buf begins
	number uint64

	mu struct {
		sync.Mutex
		err error
	}
}

// chunk is what one COPY sends: rows first and following of a transaction. The
// last one of it closes done.
type chunk struct {
	number      uint64
	first, rows uint64
	data        []byte
	done        chan struct{}
}

func newWriter[T any](ctx context.Context, s Rows[T], env sdk.SinkEnv, conn *pgx.Conn) *writer[T] {
	w := &writer[T]{
		Rows: s, env: env, stage: stageName(idOf(env.Lineage, env.UID), env.Epoch),
		chunks: make(chan chunk, chunksAhead), self: rand.Uint64() >> 1, number: 1,
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.group.Go(func() { w.send(conn) })
	return w
}

func (w *writer[T]) Write(b *sdk.Batch[T]) error {
	for i := range b.Values {
		if len(w.buf) >= chunkBytes {
			if err := w.cut(nil); err != nil {
				return err
			}
		}
		if len(w.buf) == 0 {
			w.first = w.rows
		}
		w.buf = strconv.AppendUint(w.buf, w.self, 10)
		w.buf = append(w.buf, '\t')
		w.buf = strconv.AppendUint(w.buf, w.number, 10)
		w.buf = append(w.buf, '\t')
		w.buf = strconv.AppendUint(w.buf, w.rows, 10)
		var err error
		if w.buf, err = w.codec.append(w.buf, unsafe.Pointer(&b.Values[i])); err != nil {
			return sdk.Refused(fmt.Errorf("postgres: table %s: encode %+v: %w", w.to.table, b.Values[i], err))
		}
		w.buf = append(w.buf, '\n')
		w.rows++
	}
	return w.failed()
}

// cut hands what is encoded to the sending goroutine; done is set for the last
// chunk of a transaction.
func (w *writer[T]) cut(done chan struct{}) error {
	c := chunk{number: w.number, first: w.first, rows: w.rows - w.first, data: w.buf, done: done}
	w.buf = make([]byte, 0, min(cap(w.buf), chunkBytes+chunkBytes/8))
	select {
	case w.chunks <- c:
		return w.failed()
	case <-w.ctx.Done():
		if err := w.failed(); err != nil {
			return err
		}
		return w.ctx.Err()
	}
}

// Flush keeps the rest of a chunk: it goes with the checkpoint.
func (w *writer[T]) Flush() error { return w.failed() }

// Prepare implements sdk.Preparer.
func (w *writer[T]) Prepare(uint64) (func(context.Context) ([]byte, error), error) {
	if w.rows == 0 {
		return func(context.Context) ([]byte, error) { return nil, w.failed() }, nil
	}
	h := &handle{
		lineage: w.env.Lineage, sink: w.env.UID, epoch: w.env.Epoch, subtask: uint64(w.env.Subtask),
		number: w.number, writer: w.self, rows: w.rows, to: w.to,
	}
	done := make(chan struct{})
	if err := w.cut(done); err != nil { // there is a rest: Write cuts before it adds
		return nil, err
	}
	w.number++
	w.rows = 0
	return func(ctx context.Context) ([]byte, error) {
		select {
		case <-done:
			return h.encode(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.ctx.Done():
			if err := w.failed(); err != nil {
				return nil, err
			}
			return nil, w.ctx.Err()
		}
	}, nil
}

func (w *writer[T]) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err
}

// send stages chunks in their order. With the first that fails for good the
// writer is over.
func (w *writer[T]) send(conn *pgx.Conn) {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), closeTimeout)
		defer cancel()
		if conn != nil {
			conn.Close(ctx)
		}
	}()
	for {
		var c chunk
		select {
		case c = <-w.chunks:
		case <-w.ctx.Done():
			return
		}
		tries := 0
		err := insist(w.ctx, w.patience.stage, func() (err error) {
			if conn == nil || conn.IsClosed() {
				if conn, err = connect(w.ctx, w.config, sessionName(idOf(w.env.Lineage, w.env.UID), w.env.Epoch)); err != nil {
					return err
				}
			}
			tries++
			return w.sendOnce(conn, c, tries > 1)
		})
		if err != nil {
			w.fail(c, err)
			return
		}
		if c.done != nil {
			close(c.done)
		}
	}
}

// sendOnce stages a chunk. When it was sent before and nobody knows how that
// ended, what arrived of it goes first; if it is on its way still, the key of
// the staging table lets only one of the two in.
func (w *writer[T]) sendOnce(conn *pgx.Conn, c chunk, repeated bool) error {
	copied := func() error {
		_, err := conn.PgConn().CopyFrom(w.ctx, bytes.NewReader(c.data), w.to.copySQL(w.stage))
		return err
	}
	var err error
	if !repeated {
		err = copied()
	} else {
		err = inTransaction(w.ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(w.ctx, w.to.clearSQL(w.stage), int64(w.self), int64(c.number), int64(c.first), int64(c.first+c.rows)); err != nil {
				return err
			}
			return copied()
		})
		if hasCode(err, codeUnique) {
			return errArrivesTwice
		}
	}
	if hasCode(err, codeNoTable) {
		return w.orphaned(conn, err)
	}
	return err
}

// errArrivesTwice: the first sending of a chunk ended while it was repeated. It
// is no error of the database's, so it is repeated once more.
var errArrivesTwice = errors.New("a chunk arrived while it was sent again")

// orphaned tells a staging table that a later epoch has dropped from one that is
// missing for another reason.
func (w *writer[T]) orphaned(conn *pgx.Conn, cause error) error {
	err := inTransaction(w.ctx, conn, func(tx pgx.Tx) error { return checkFence(w.ctx, tx, w.to, w.env, "SHARE") })
	if err != nil {
		return err
	}
	return fmt.Errorf("the staging table was dropped by somebody else: %w", cause)
}

// fail notes why the writer is over and fails the task, unless that is over.
func (w *writer[T]) fail(c chunk, err error) {
	err = fmt.Errorf("postgres: table %s: stage rows %d to %d of transaction %d: %w", w.to.table, c.first, c.first+c.rows-1, c.number, err)
	w.mu.Lock()
	w.mu.err = err
	w.mu.Unlock()
	over := w.ctx.Err() != nil
	w.cancel() // whoever waits for room or for an end
	if !over {
		w.env.Fail(err)
	}
}

// Close gives up what was not prepared. The last writer of the process drops the
// staging table if nothing is in it; else the next recovery settles that.
func (w *writer[T]) Close() error {
	w.cancel()
	w.group.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), closeTimeout)
	defer cancel()
	if w.shared.leave(ctx) {
		w.dropIfEmpty(ctx)
	}
	return nil
}

func (w *writer[T]) dropIfEmpty(ctx context.Context) {
	conn, err := connect(ctx, w.config, sessionName(idOf(w.env.Lineage, w.env.UID), w.env.Epoch))
	if err != nil {
		return
	}
	defer conn.Close(ctx)
	table := w.to.in(w.stage)
	_ = inTransaction(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE NOWAIT"); err != nil {
			return err
		}
		var used bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+table+")").Scan(&used); err != nil || used {
			return errors.Join(err, errInUse)
		}
		_, err := tx.Exec(ctx, "DROP TABLE "+table)
		return err
	})
}

var errInUse = errors.New("the staging table has rows")
