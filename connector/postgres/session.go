package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/sdk"
)

// Codes of PostgreSQL that are met (Appendix A of its manual).
const (
	codeNoTable      = "42P01"
	codeUnique       = "23505"
	codeLockTimeout  = "55P03"
	codeReadOnly     = "25006"
	lockTimeout      = 2 * time.Second
	connectTimeout   = 5 * time.Second
	firstPause       = 50 * time.Millisecond
	longestPause     = 2 * time.Second
	callPatience     = 20 * time.Second // of Open, Recover and Commit
	stagePatience    = 40 * time.Second // less than a task may wait in one call
	idleTransaction  = "15s"
	keepalivesIdle   = "10"
	keepalivesCount  = "3"
	keepalivesPeriod = "5"
)

// connect opens a session that is known by its sink and epoch, so that a later
// epoch can end it.
func connect(ctx context.Context, cfg *pgx.ConnConfig, name string) (*pgx.Conn, error) {
	cfg = cfg.Copy()
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	p := cfg.RuntimeParams
	p["application_name"] = name
	p["client_encoding"] = "UTF8"
	// A session whose client is gone or stopped must not hold its locks.
	p["idle_in_transaction_session_timeout"] = idleTransaction
	p["tcp_keepalives_idle"], p["tcp_keepalives_interval"], p["tcp_keepalives_count"] = keepalivesIdle, keepalivesPeriod, keepalivesCount
	// Tables of earlier epochs come and go: plans are not kept by name.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	// What a handle names is durable, whatever the server's default.
	_, err = conn.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')")
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// verdict is what an error of the database means for what was tried.
type verdict int

const (
	again    verdict = iota // a connection, a lock, a server that starts: try again
	hopeless                // the database refuses what was sent, and will again
	unclear                 // neither is known: the job's restart strategy decides
)

// judge says what an error means, by its code.
func judge(err error) verdict {
	var p *pgconn.PgError
	if _, judged := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); judged {
		return unclear // by this package: Stale or Refused
	}
	if !errors.As(err, &p) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return unclear
		}
		return again // the connection, or how to make one
	}
	switch p.Code {
	case codeReadOnly: // a server that is no longer, or not yet, the primary
		return again
	case codeLockTimeout:
		return again
	}
	switch p.Code[:2] {
	case "08", "40", "53", "57", "58": // connection, rollback, resources, operator, system
		return again
	case "0A", "21", "22", "23", "28", "3D", "3F", "42", "44":
		return hopeless
	}
	return unclear
}

func hasCode(err error, code string) bool {
	var p *pgconn.PgError
	return errors.As(err, &p) && p.Code == code
}

// explain adds to an error of the database what it says of table, constraint and
// row, and marks those that no repetition mends.
func explain(err error) error {
	var p *pgconn.PgError
	if err == nil || !errors.As(err, &p) {
		return err
	}
	for _, part := range []struct{ what, text string }{
		{"table", p.TableName}, {"constraint", p.ConstraintName}, {"column", p.ColumnName}, {"row", p.Detail}, {"at", p.Where}, {"hint", p.Hint},
	} {
		if part.text != "" {
			err = fmt.Errorf("%w; %s: %s", err, part.what, part.text)
		}
	}
	if judge(err) == hopeless {
		return sdk.Refused(err)
	}
	return err
}

// insist repeats f while the database asks for it, at most for patience.
func insist(ctx context.Context, patience time.Duration, f func() error) error {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := f()
		if err == nil || judge(err) != again || ctx.Err() != nil || time.Since(began)+pause > patience {
			return explain(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return explain(err)
		}
	}
}

// inTransaction runs f in one, and commits.
func inTransaction(ctx context.Context, conn *pgx.Conn, f func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	return tx.Commit(ctx)
}
