package dispatch

import (
	"context"
	"errors"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/inspect"
	"github.com/millrace/millrace/checkpoint/manifest"
)

// This chapter looks into savepoints, and into checkpoints that are still there.

// Inspect describes the savepoint at a user's path.
func (d *Dispatcher) Inspect(ctx context.Context, path string) (*inspect.Summary, error) {
	key, m, err := d.findManifest(ctx, path)
	if err != nil {
		return nil, err
	}
	s, err := inspect.Summarize(checkpoint.PathOf(key), m)
	if err != nil {
		return nil, api.Errorf(api.SnapshotCorrupt, "%w", err)
	}
	return s, nil
}

// Rows gives the rows of operator/state of a savepoint, of one key where key is
// set. What selects nothing is an error before the first row.
func (d *Dispatcher) Rows(ctx context.Context, path, operator string, key *string) (func(yield func(*inspect.Row) error) error, error) {
	_, m, err := d.findManifest(ctx, path)
	if err != nil {
		return nil, err
	}
	q := inspect.Query{Key: key}
	if q.Operator, q.State, err = inspect.Select(m, operator); err != nil {
		return nil, api.Errorf(api.StateNotFound, "%s: %w", path, err)
	}
	return func(yield func(*inspect.Row) error) error {
		return inspectError(inspect.Rows(ctx, d.cfg.Bucket, m, q, yield))
	}, nil
}

// inspectError gives what reading state failed with the code that it has.
func inspectError(err error) error {
	var none *inspect.NotFoundError
	switch code := manifest.Code(err); {
	case err == nil:
		return nil
	case errors.As(err, &none):
		return api.Errorf(api.StateNotFound, "%w", err)
	case code != "":
		return api.Errorf(api.Code(code), "%w", err)
	}
	return api.From(err)
}

// Verify reads all that a savepoint names. Damage is in the report.
func (d *Dispatcher) Verify(ctx context.Context, path string) (*inspect.Report, error) {
	for _, key := range d.manifestKeys(path) {
		rep, err := inspect.Verify(ctx, d.cfg.Bucket, key, nil)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		return rep, inspectError(err)
	}
	return nil, api.Errorf(api.SavepointNotFound, "savepoint %s is not in bucket %s", path, d.cfg.Bucket.URL())
}
