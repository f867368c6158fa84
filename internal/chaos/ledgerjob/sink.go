package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace/millrace/internal/chaos/ledger"
	"github.com/millrace/millrace/internal/chaos/outlet"
	"github.com/millrace/millrace/sdk"
)

// outletSink writes rows into the checker's store.
type outletSink struct{ address string }

func (outletSink) Name() string { return "to-outlet" }

// blockBytes is the size at which a block is staged.
const blockBytes = 32 << 10

func (s outletSink) Open(ctx context.Context, env sdk.SinkEnv) (sdk.Writer[ledger.Row], error) {
	c, err := outlet.Dial(ctx, s.address)
	if err != nil {
		return nil, err
	}
	return &outletWriter{ctx: ctx, client: c, env: env, number: 1}, nil
}

// outletWriter stages the rows of one subtask, a transaction a checkpoint.
type outletWriter struct {
	ctx    context.Context
	client *outlet.Client
	env    sdk.SinkEnv
	number uint64
	blocks int
	bytes  int
	rows   []byte
}

func (w *outletWriter) Write(b *sdk.Batch[ledger.Row]) error {
	if len(b.Values) > 0 && w.env.Held != nil {
		w.env.Held()
	}
	for _, r := range b.Values {
		w.rows = ledger.AppendRow(w.rows, r)
		if len(w.rows) >= blockBytes {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *outletWriter) Flush() error {
	if len(w.rows) == 0 {
		return nil
	}
	err := w.client.Call(w.ctx, &outlet.Request{
		Op: outlet.Stage, Lineage: w.env.Lineage, Sink: w.env.UID, Epoch: w.env.Epoch,
		Transaction: w.number, Subtask: w.env.Subtask, Block: w.blocks, Rows: w.rows,
	})
	if err != nil {
		return err
	}
	w.blocks++
	w.bytes += len(w.rows)
	w.rows = w.rows[:0]
	return nil
}

// Prepare implements sdk.Preparer: all rows are staged when it returns.
func (w *outletWriter) Prepare(uint64) (func(context.Context) ([]byte, error), error) {
	if err := w.Flush(); err != nil {
		return nil, err
	}
	h := outlet.Handle{Epoch: w.env.Epoch, Transaction: w.number, Subtask: w.env.Subtask, Blocks: w.blocks, Rows: w.bytes}
	w.number++
	w.blocks, w.bytes = 0, 0
	return func(context.Context) ([]byte, error) {
		if h.Blocks == 0 {
			return nil, nil
		}
		return json.Marshal(h)
	}, nil
}

func (w *outletWriter) Close() error { return w.client.Close() }

// Recover implements sdk.Transactional.
func (s outletSink) Recover(ctx context.Context, env sdk.SinkEnv, checkpoint uint64, handles []sdk.Handle) error {
	return s.call(ctx, outlet.Fence, env, checkpoint, handles)
}

// Commit implements sdk.Transactional.
func (s outletSink) Commit(ctx context.Context, env sdk.SinkEnv, checkpoint uint64, handles []sdk.Handle) error {
	return s.call(ctx, outlet.Commit, env, checkpoint, handles)
}

func (s outletSink) call(ctx context.Context, op outlet.Op, env sdk.SinkEnv, checkpoint uint64, handles []sdk.Handle) (err error) {
	r := &outlet.Request{Op: op, Lineage: env.Lineage, Sink: env.UID, Epoch: env.Epoch, Checkpoint: checkpoint}
	for _, h := range handles {
		var handle outlet.Handle
		if err := json.Unmarshal(h.Value, &handle); err != nil {
			return fmt.Errorf("handle of subtask %d: %w", h.Subtask, err)
		}
		r.Handles = append(r.Handles, handle)
	}
	if op == outlet.Commit && len(r.Handles) == 0 {
		return nil
	}
	c, err := outlet.Dial(ctx, s.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.Call(ctx, r)
}
