package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Names in the database. Columns of staging tables that are the sink's own have
// a dollar in them, which no column gets by accident.
const (
	metaPrefix   = "mr$"
	columnWriter = `"mr$writer"`
	columnNumber = `"mr$number"`
	columnRow    = `"mr$row"`
	setupLock    = 0x6d696c6c72616365 // "millrace"
)

// idOf names a sink of a lineage where a name must be short.
func idOf(lineage, uid string) string {
	sum := sha256.Sum256([]byte(lineage + "\x00" + uid))
	return hex.EncodeToString(sum[:8])
}

// sessionName is the application_name of the sessions of one epoch.
func sessionName(id string, epoch uint64) string { return fmt.Sprintf("millrace %s %d", id, epoch) }

func quote(names ...string) string { return pgx.Identifier(names).Sanitize() }

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}

// in qualifies a table of the sink's own.
func (t target) in(table string) string { return quote(t.schema, table) }

func (t target) quoted() string { return quote(strings.Split(t.table, ".")...) }

// stagePrefix begins the names of the staging tables of a sink.
func stagePrefix(id string) string { return "staged_" + id + "_" }

func stageName(id string, epoch uint64) string { return fmt.Sprintf("%s%d", stagePrefix(id), epoch) }

// setupSQL makes what all sinks share in their schema.
func (t target) setupSQL() string {
	return fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s (
	lineage text NOT NULL, sink text NOT NULL, fence bigint NOT NULL,
	PRIMARY KEY (lineage, sink));
CREATE TABLE IF NOT EXISTS %s (
	lineage text NOT NULL, sink text NOT NULL, epoch bigint NOT NULL, subtask bigint NOT NULL,
	writer bigint NOT NULL, number bigint NOT NULL, checkpoint bigint NOT NULL, committed_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (lineage, sink, epoch, subtask))`,
		t.in("sinks"), t.in("commits"))
}

// stageSQL makes a staging table with the columns, NOT NULLs and CHECKs of the
// target, so that what breaks them is refused when it is staged. Columns that
// the sink does not write may stay empty until the row is in its table.
func (t target) stageSQL(stage string, unwritten, counted []string) string {
	sql := fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
	%s bigint NOT NULL, %s bigint NOT NULL, %s bigint NOT NULL, PRIMARY KEY (%s, %s, %s))
	WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, toast.autovacuum_vacuum_scale_factor = 0)`,
		t.in(stage), t.quoted(), columnWriter, columnNumber, columnRow, columnWriter, columnNumber, columnRow)
	for _, c := range unwritten {
		sql += fmt.Sprintf(";\nALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", t.in(stage), quote(c))
	}
	for _, c := range counted {
		sql += fmt.Sprintf(";\nALTER TABLE %s ALTER COLUMN %s DROP DEFAULT", t.in(stage), quote(c))
	}
	return sql
}

func (t target) copySQL(stage string) string {
	return fmt.Sprintf("COPY %s (%s, %s, %s, %s) FROM STDIN", t.in(stage), columnWriter, columnNumber, columnRow, quoteAll(t.columns))
}

// clearSQL removes a chunk of rows, which is about to be staged again.
func (t target) clearSQL(stage string) string {
	return fmt.Sprintf("DELETE FROM %s WHERE %s = $1 AND %s = $2 AND %s >= $3 AND %s < $4", t.in(stage), columnWriter, columnNumber, columnRow, columnRow)
}

// moveSQL takes the rows of transactions with one number, of several writers,
// out of a staging table and puts them where they belong, in one statement. It
// returns how many it took. Of rows with one key an upsert takes the last.
func (t target) moveSQL(stage string) string {
	columns := quoteAll(t.columns)
	rows := fmt.Sprintf("SELECT %s FROM taken ORDER BY %s, %s", columns, columnWriter, columnRow)
	conflict := ""
	if len(t.keys) > 0 {
		keys := quoteAll(t.keys)
		rows = fmt.Sprintf("SELECT %s FROM (SELECT DISTINCT ON (%s) * FROM taken ORDER BY %s, %s DESC, %s) AS newest",
			columns, keys, keys, columnRow, columnWriter)
		conflict = fmt.Sprintf(" ON CONFLICT (%s) DO ", keys)
		var sets []string
		for _, c := range t.columns {
			if !slices.Contains(t.keys, c) {
				sets = append(sets, fmt.Sprintf("%s = EXCLUDED.%s", quote(c), quote(c)))
			}
		}
		if len(sets) == 0 {
			conflict += "NOTHING"
		} else {
			conflict += "UPDATE SET " + strings.Join(sets, ", ")
		}
	}
	return fmt.Sprintf(`WITH taken AS (DELETE FROM %s WHERE %s = ANY($1) AND %s = $2 RETURNING *),
put AS (INSERT INTO %s (%s) %s%s)
SELECT count(*) FROM taken`, t.in(stage), columnWriter, columnNumber, t.quoted(), columns, rows, conflict)
}
