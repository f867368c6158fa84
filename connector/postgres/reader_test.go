package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// onlooker reads the table of counts, on a connection of its own.
type onlooker struct {
	d    *database
	conn *pgx.Conn
}

func newReader(d *database) *onlooker {
	conn, err := pgx.Connect(context.Background(), d.url)
	if err != nil {
		d.t.Error(err)
	}
	return &onlooker{d, conn}
}

func (o *onlooker) close() { o.conn.Close(context.Background()) }

// tally is what is visible of one key.
type tally struct{ rows, distinct, highest int64 }

func (o *onlooker) look() (map[string]tally, error) {
	rows, err := o.conn.Query(context.Background(),
		strings.ReplaceAll("SELECT key, count(*), count(DISTINCT n), max(n) FROM @.counts GROUP BY key", "@", o.d.schema))
	if err != nil {
		return nil, err
	}
	all := map[string]tally{}
	var key string
	var t tally
	_, err = pgx.ForEachRow(rows, []any{&key, &t.rows, &t.distinct, &t.highest}, func() error {
		all[key] = t
		return nil
	})
	return all, err
}

// reconnect replaces the test's connection after a crash of the server.
func (d *database) reconnect() {
	d.t.Helper()
	d.conn.Close(context.Background())
	var err error
	if d.conn, err = pgx.Connect(context.Background(), d.url); err != nil {
		d.t.Fatal(err)
	}
}
