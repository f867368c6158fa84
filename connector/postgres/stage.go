package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/sdk"
)

// setup makes the sink's schema and tables. It looks first: a role that may not
// make them may use them.
func setup(ctx context.Context, conn *pgx.Conn, to target) error {
	var there bool
	err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL", to.in("sinks"), to.in("commits")).Scan(&there)
	if err != nil || there {
		return err
	}
	return inTransaction(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(setupLock)); err != nil {
			return err
		}
		// A role that may not make schemas may use one: IF NOT EXISTS asks for
		// the right first.
		if err := tx.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL", quote(to.schema)).Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := tx.Exec(ctx, "CREATE SCHEMA "+quote(to.schema)); err != nil {
				return err
			}
		}
		for statement := range strings.SplitSeq(to.setupSQL(), ";\n") {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// prepareStage makes the staging table of an epoch, unless the epoch is over, and
// has the database look at the statement that will commit from it.
func prepareStage(ctx context.Context, conn *pgx.Conn, to target, env sdk.SinkEnv) error {
	if err := setup(ctx, conn, to); err != nil {
		return err
	}
	id := idOf(env.Lineage, env.UID)
	stage := stageName(id, env.Epoch)
	return inTransaction(ctx, conn, func(tx pgx.Tx) error {
		// All subtasks come here at once: one makes the table.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", to.in(stage)); err != nil {
			return err
		}
		if err := checkFence(ctx, tx, to, env, "SHARE"); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", to.in(stage)).Scan(&there); err != nil {
			return err
		}
		if !there {
			if err := makeStage(ctx, tx, to, stage); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "EXPLAIN "+to.moveSQL(stage), []int64{0}, int64(0))
		return err
	})
}

func makeStage(ctx context.Context, tx pgx.Tx, to target, stage string) error {
	rows, err := tx.Query(ctx, `SELECT attname, attgenerated <> '', coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false)
		FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`, to.quoted())
	if err != nil {
		return err
	}
	var known, unwritten, counted []string
	var name string
	var generated, sequence bool
	_, err = pgx.ForEachRow(rows, []any{&name, &generated, &sequence}, func() error {
		known = append(known, name)
		if slices.Contains(to.columns, name) || generated {
			return nil
		}
		unwritten = append(unwritten, name)
		if sequence {
			counted = append(counted, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range to.columns {
		if !slices.Contains(known, c) {
			return sdk.Refused(fmt.Errorf("the table has no column %q; it has %s", c, strings.Join(known, ", ")))
		}
	}
	for statement := range strings.SplitSeq(to.stageSQL(stage, unwritten, counted), ";\n") {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// checkFence locks the sink's row and refuses an epoch that is over. SHARE keeps
// the fence where it is until the transaction ends, UPDATE keeps out other
// commits too.
func checkFence(ctx context.Context, tx pgx.Tx, to target, env sdk.SinkEnv, strength string) error {
	fence, err := lockSink(ctx, tx, to, env.Lineage, env.UID, strength)
	if err != nil {
		return err
	}
	if fence > env.Epoch {
		return stale(env, fence)
	}
	return nil
}

func stale(env sdk.SinkEnv, fence uint64) error {
	return sdk.Stale(fmt.Errorf("epoch %d of sink %s is over: epoch %d has taken over", env.Epoch, env.UID, fence))
}

func lockSink(ctx context.Context, tx pgx.Tx, to target, lineage, uid, strength string) (fence uint64, err error) {
	for {
		var n int64
		err := tx.QueryRow(ctx, fmt.Sprintf("SELECT fence FROM %s WHERE lineage = $1 AND sink = $2 FOR %s", to.in("sinks"), strength), lineage, uid).Scan(&n)
		if !errors.Is(err, pgx.ErrNoRows) {
			return uint64(n), err
		}
		_, err = tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s (lineage, sink, fence) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING", to.in("sinks")), lineage, uid)
		if err != nil {
			return 0, err
		}
	}
}
