package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/sdk"
)

// committer settles transactions for one attempt, over one session.
//
//  1. sinks.fence of (lineage, sink) never falls. Whoever stages makes its table,
//     and whoever commits works, while holding that row at its own epoch or lower.
//  2. Rows leave a staging table in the database transaction that puts them into
//     their table and raises commits.number for (lineage, sink, epoch,
//     subtask): all of it or nothing. Numbers are committed in order, so
//     what is not above the number is committed.
//  3. The staging tables of lower epochs go once the fence has passed them and
//     the restored checkpoint's rows have been taken out. A writer of such an
//     epoch then has no place to write to, and cannot make one (1).
type committer struct {
	conn       *pgx.Conn
	env        sdk.SinkEnv
	to         target
	checkpoint uint64
}

func (c *committer) id() string { return idOf(c.env.Lineage, c.env.UID) }

// recover fences, commits and cleans up, in this order. Each part may have been
// done before.
func (c *committer) recover(ctx context.Context, handles []*handle) error {
	if err := setup(ctx, c.conn, c.to); err != nil {
		return err
	}
	if err := c.fence(ctx); err != nil {
		return err
	}
	if len(handles) > 0 {
		if err := c.commit(ctx, handles); err != nil {
			return err
		}
	}
	return c.dropStages(ctx)
}

// fence raises the fence. Sessions of lower epochs may hold it back, and if
// their process is stopped they do so for ever: they are ended.
func (c *committer) fence(ctx context.Context) error {
	if err := c.endOldSessions(ctx); err != nil {
		return err
	}
	return c.patiently(ctx, func(tx pgx.Tx) error {
		fence, err := lockSink(ctx, tx, c.to, c.env.Lineage, c.env.UID, "UPDATE")
		if err != nil {
			return err
		}
		if fence > c.env.Epoch {
			return stale(c.env, fence)
		}
		_, err = tx.Exec(ctx, fmt.Sprintf("UPDATE %s SET fence = $3 WHERE lineage = $1 AND sink = $2", c.to.in("sinks")),
			c.env.Lineage, c.env.UID, int64(c.env.Epoch))
		return err
	})
}

// patiently runs f in a transaction that does not wait long for locks; sessions
// of lower epochs that hold them meanwhile are ended.
func (c *committer) patiently(ctx context.Context, f func(pgx.Tx) error) error {
	for {
		err := inTransaction(ctx, c.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", strconv.FormatInt(lockTimeout.Milliseconds(), 10)); err != nil {
				return err
			}
			return f(tx)
		})
		if !hasCode(err, codeLockTimeout) || ctx.Err() != nil {
			return err
		}
		if err := c.endOldSessions(ctx); err != nil {
			return err
		}
	}
}

// endOldSessions ends sessions of lower epochs of this sink that the role of
// this session may end.
func (c *committer) endOldSessions(ctx context.Context) error {
	prefix := sessionName(c.id(), 0)
	prefix = strings.TrimSuffix(prefix, "0")
	_, err := c.conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE pid <> pg_backend_pid() AND usename = current_user AND starts_with(application_name, $1)
		AND CASE WHEN substr(application_name, length($1) + 1) ~ '^[0-9]{1,18}$' THEN substr(application_name, length($1) + 1)::bigint < $2 ELSE false END`,
		prefix, int64(c.env.Epoch))
	return err
}

// dropStages drops what lower epochs staged and no checkpoint holds.
func (c *committer) dropStages(ctx context.Context) error {
	rows, err := c.conn.Query(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND starts_with(tablename, $2)", c.to.schema, stagePrefix(c.id()))
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		epoch, err := strconv.ParseUint(strings.TrimPrefix(name, stagePrefix(c.id())), 10, 64)
		if err != nil || epoch >= c.env.Epoch {
			continue
		}
		err = c.patiently(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "DROP TABLE IF EXISTS "+c.to.in(name))
			return err
		})
		if err != nil {
			return fmt.Errorf("drop %s: %w", c.to.in(name), err)
		}
	}
	return nil
}

// commit moves what handles name into its tables, in one transaction.
func (c *committer) commit(ctx context.Context, handles []*handle) error {
	return inTransaction(ctx, c.conn, func(tx pgx.Tx) error {
		if err := checkFence(ctx, tx, c.to, c.env, "UPDATE"); err != nil {
			return err
		}
		var fresh []*handle
		for _, of := range bySink(handles) {
			if of[0].lineage != c.env.Lineage || of[0].sink != c.env.UID || of[0].to.schema != c.to.schema {
				// A savepoint's: its own job may be about to commit it too.
				if _, err := lockSink(ctx, tx, of[0].to, of[0].lineage, of[0].sink, "UPDATE"); err != nil {
					return err
				}
			}
			left, err := uncommitted(ctx, tx, of)
			if err != nil {
				return err
			}
			fresh = append(fresh, left...)
		}
		for _, batch := range byStage(fresh) {
			if err := c.move(ctx, tx, batch); err != nil {
				return err
			}
		}
		return c.record(ctx, tx, fresh)
	})
}

// bySink parts handles by the ledger that knows of them, in a fixed order.
func bySink(handles []*handle) [][]*handle {
	return groups(handles, func(a, b *handle) int {
		return cmp.Or(cmp.Compare(a.to.schema, b.to.schema), cmp.Compare(a.lineage, b.lineage), cmp.Compare(a.sink, b.sink))
	})
}

// byStage parts handles into what one statement moves: the oldest first.
func byStage(handles []*handle) [][]*handle {
	return groups(handles, func(a, b *handle) int {
		return cmp.Or(cmp.Compare(a.to.schema, b.to.schema), cmp.Compare(a.id(), b.id()), cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.number, b.number),
			cmp.Compare(a.to.table, b.to.table), slices.Compare(a.to.columns, b.to.columns), slices.Compare(a.to.keys, b.to.keys))
	})
}

func groups(handles []*handle, compare func(a, b *handle) int) (out [][]*handle) {
	sorted := slices.SortedStableFunc(slices.Values(handles), compare)
	for i, h := range sorted {
		if i == 0 || compare(sorted[i-1], h) != 0 {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], h)
	}
	return out
}

// uncommitted returns those of one sink's handles that its ledger does not have.
func uncommitted(ctx context.Context, tx pgx.Tx, handles []*handle) (left []*handle, err error) {
	first := handles[0]
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT epoch, subtask, writer, number, committed_at FROM %s WHERE lineage = $1 AND sink = $2", first.to.in("commits")),
		first.lineage, first.sink)
	if err != nil {
		return nil, err
	}
	type place struct{ epoch, subtask int64 }
	type done struct {
		writer, number int64
		at             time.Time
	}
	known := map[place]done{}
	var p place
	var d done
	if _, err := pgx.ForEachRow(rows, []any{&p.epoch, &p.subtask, &d.writer, &d.number, &d.at}, func() error {
		known[p] = d
		return nil
	}); err != nil {
		return nil, err
	}
	for _, h := range handles {
		d, ok := known[place{int64(h.epoch), int64(h.subtask)}]
		switch {
		case !ok || d.writer == int64(h.writer) && d.number < int64(h.number):
			left = append(left, h)
		case d.writer != int64(h.writer):
			return nil, sdk.Refused(fmt.Errorf("transaction %d of epoch %d, subtask %d is committed (%s) as another's: something else writes with lineage %s",
				h.number, h.epoch, h.subtask, d.at.Format(time.RFC3339), h.lineage))
		}
	}
	return left, nil
}

// move puts the rows of one number into their table.
func (c *committer) move(ctx context.Context, tx pgx.Tx, batch []*handle) error {
	first := batch[0]
	stage := stageName(first.id(), first.epoch)
	var writers []int64
	var want uint64
	for _, h := range batch {
		writers = append(writers, int64(h.writer))
		want += h.rows
	}
	var there bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", first.to.in(stage)).Scan(&there); err != nil {
		return err
	}
	var got int64
	if there {
		if err := tx.QueryRow(ctx, first.to.moveSQL(stage), writers, int64(first.number)).Scan(&got); err != nil {
			return err
		}
	}
	if uint64(got) != want {
		return sdk.Refused(fmt.Errorf("%s has %d rows of transaction %d, the checkpoint names %d: it was changed by hand, "+
			"or dropped by a job that went back to an older savepoint, or the database was restored from a backup", first.to.in(stage), got, first.number, want))
	}
	return nil
}

// record enters transactions into their ledgers.
func (c *committer) record(ctx context.Context, tx pgx.Tx, handles []*handle) error {
	for _, of := range bySink(handles) {
		newest := map[[2]uint64]*handle{}
		for _, h := range of {
			if at := [2]uint64{h.epoch, h.subtask}; newest[at] == nil || newest[at].number < h.number {
				newest[at] = h
			}
		}
		var epochs, subtasks, writers, numbers []int64
		for _, h := range newest {
			epochs, subtasks = append(epochs, int64(h.epoch)), append(subtasks, int64(h.subtask))
			writers, numbers = append(writers, int64(h.writer)), append(numbers, int64(h.number))
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO %s AS c (lineage, sink, epoch, subtask, writer, number, checkpoint)
			SELECT $1, $2, e, s, w, n, $7 FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS t (e, s, w, n)
			ON CONFLICT (lineage, sink, epoch, subtask) DO UPDATE
			SET number = EXCLUDED.number, checkpoint = EXCLUDED.checkpoint, committed_at = EXCLUDED.committed_at`, of[0].to.in("commits")),
			of[0].lineage, of[0].sink, epochs, subtasks, writers, numbers, int64(c.checkpoint))
		if err != nil {
			return err
		}
	}
	return nil
}
