package postgres

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/sdk"
)

// Rows is an exactly-once sink of rows. Its methods, but for those that the
// runtime calls, return changed copies.
type Rows[T any] struct {
	config *pgx.ConnConfig
	err    error
	codec  rowCodec
	to     target
	shared *shared
	// patience is how long a call, and a chunk that is staged, is repeated.
	patience struct{ call, stage time.Duration }
}

// shared is what the copies of one sink have in common in a process: a session
// that commits, kept while there are writers.
type shared struct {
	mu struct {
		sync.Mutex
		writers int
		conn    *pgx.Conn // nil while none is open, or somebody uses it
		name    string
	}
}

// Sink writes records as rows of a table, given as table or schema.table, of the
// database that url names: postgres://user@host:5432/database?sslmode=verify-full, or
// "host=… dbname=…". What it leaves out comes from the environment (PGHOST, PGUSER,
// PGPASSWORD, PGPASSFILE and so on), which is where a password belongs: of the
// workers, on every machine.
//
// T is a struct. Each exported field is a column, named by its tag or else by the
// field in lower case:
//
//	type Delays struct {
//		Origin string    `db:"origin"`
//		Day    time.Time `db:"day"`
//		Worst  *int32    `db:"worst"`       // nil is NULL
//		Notes  []string  `db:"notes,json"`  // json or jsonb
//		Cached string    `db:"-"`           // no column
//	}
//
// Fields may be numbers, strings, booleans, []byte (bytea), time.Time (sent in UTC, kept
// to the microsecond), types with MarshalText, and pointers to these. They
// are sent as text, which the server parses as the column's type: a string may fill a
// numeric, a date, an enum or an array. Columns that no field is named for get their
// defaults.
func Sink[T any](url, table string) Rows[T] {
	s := Rows[T]{codec: codecOf(reflect.TypeFor[T]()), shared: &shared{}}
	s.config, s.err = pgx.ParseConfig(url)
	s.patience.call, s.patience.stage = callPatience, stagePatience
	s.to = target{schema: "millrace", table: table, columns: s.codec.columns}
	return s
}

// Upsert makes a row replace the one that has the same values in these columns,
// on which the table must have a unique constraint. Of rows of one checkpoint with one key the
// last one that a subtask wrote counts. Without Upsert rows are inserted.
func (s Rows[T]) Upsert(columns ...string) Rows[T] {
	s.to.keys = columns
	if len(columns) == 0 && s.err == nil {
		s.err = errors.New("Upsert: it names no column")
	}
	return s
}

// Schema sets where the sink keeps its own tables, millrace without it. It is made
// if it is not there. All sinks that write a database may share one. It must stay
// the same for the life of the job: older attempts are known from there.
func (s Rows[T]) Schema(name string) Rows[T] {
	s.to.schema = name
	return s
}

// Name is the sink's name in the job graph: to- and the table.
func (s Rows[T]) Name() string { return "to-" + s.to.table }

// Check is asked in plan mode; it does not go to the database.
func (s Rows[T]) Check() error {
	if err := errors.Join(s.err, s.codec.err); err != nil {
		return fmt.Errorf("postgres: the sink of table %q: %w", s.to.table, err)
	}
	if parts := strings.Split(s.to.table, "."); len(parts) > 2 || slices.Contains(parts, "") || s.to.schema == "" {
		return fmt.Errorf("postgres: %q and %q: a table as table or schema.table, and a schema for the sink, are wanted", s.to.table, s.to.schema)
	}
	for _, key := range s.to.keys {
		if !slices.Contains(s.to.columns, key) {
			return fmt.Errorf("postgres: the key %q of an upsert is no column of %v: they are %s", key, reflect.TypeFor[T](), strings.Join(s.to.columns, ", "))
		}
	}
	return nil
}

// Open implements sdk.Sink.
func (s Rows[T]) Open(ctx context.Context, env sdk.SinkEnv) (sdk.Writer[T], error) {
	id := idOf(env.Lineage, env.UID)
	var conn *pgx.Conn
	err := insist(ctx, s.patience.call, func() (err error) {
		if conn, err = connect(ctx, s.config, sessionName(id, env.Epoch)); err != nil {
			return err
		}
		if err = prepareStage(ctx, conn, s.to, env); err != nil {
			conn.Close(ctx)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: open table %s: %w", s.to.table, err)
	}
	s.shared.enter()
	return newWriter(ctx, s, env, conn), nil
}

// Recover implements sdk.Transactional.
func (s Rows[T]) Recover(ctx context.Context, env sdk.SinkEnv, checkpoint uint64, handles []sdk.Handle) error {
	return s.settle(ctx, env, checkpoint, handles, true)
}

// Commit implements sdk.Transactional.
func (s Rows[T]) Commit(ctx context.Context, env sdk.SinkEnv, checkpoint uint64, handles []sdk.Handle) error {
	if len(handles) == 0 {
		return nil
	}
	return s.settle(ctx, env, checkpoint, handles, false)
}

func (s Rows[T]) settle(ctx context.Context, env sdk.SinkEnv, checkpoint uint64, sent []sdk.Handle, recovering bool) error {
	handles := make([]*handle, len(sent))
	for i, raw := range sent {
		var err error
		if handles[i], err = decodeHandle(raw.Value); err != nil {
			return sdk.Refused(fmt.Errorf("postgres: table %s: the handle of subtask %d: %w", s.to.table, raw.Subtask, err))
		}
	}
	name := sessionName(idOf(env.Lineage, env.UID), env.Epoch)
	err := insist(ctx, s.patience.call, func() error {
		conn, err := s.shared.take(ctx, s.config, name)
		if err != nil {
			return err
		}
		c := committer{conn: conn, env: env, to: s.to, checkpoint: checkpoint}
		if recovering {
			err = c.recover(ctx, handles)
		} else {
			err = c.commit(ctx, handles)
		}
		s.shared.give(ctx, conn, name, err)
		return err
	})
	if err != nil {
		return fmt.Errorf("postgres: table %s: %w", s.to.table, err)
	}
	return nil
}

func (s *shared) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.writers++
}

// leave closes the session that commits with the last writer, and says whether
// that was it.
func (s *shared) leave(ctx context.Context) (last bool) {
	s.mu.Lock()
	s.mu.writers--
	last = s.mu.writers == 0
	var conn *pgx.Conn
	if last {
		conn, s.mu.conn = s.mu.conn, nil
	}
	s.mu.Unlock()
	if conn != nil {
		conn.Close(ctx)
	}
	return last
}

// take returns the session that commits, for one caller at a time; give takes it
// back.
func (s *shared) take(ctx context.Context, cfg *pgx.ConnConfig, name string) (*pgx.Conn, error) {
	s.mu.Lock()
	conn, same := s.mu.conn, s.mu.name == name
	s.mu.conn = nil
	s.mu.Unlock()
	if conn != nil && same && !conn.IsClosed() {
		return conn, nil
	}
	if conn != nil {
		conn.Close(ctx)
	}
	return connect(ctx, cfg, name)
}

func (s *shared) give(ctx context.Context, conn *pgx.Conn, name string, err error) {
	s.mu.Lock()
	keep := err == nil && s.mu.writers > 0 && s.mu.conn == nil
	if keep {
		s.mu.conn, s.mu.name = conn, name
	}
	s.mu.Unlock()
	if !keep {
		conn.Close(ctx)
	}
}
