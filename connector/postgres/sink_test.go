package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/sdk"
)

type order struct {
	ID      int64     `db:"id"`
	Kind    string    `db:"kind"`
	Amount  string    `db:"amount"`
	At      time.Time `db:"at"`
	Note    *string   `db:"note"`
	Raw     []byte    `db:"raw"`
	Tags    []string  `db:"tags,json"`
	Ratio   float64   `db:"ratio"`
	Skipped chan int  `db:"-"`
}

const orders = `CREATE TYPE @.kind AS ENUM ('buy', 'sell');
CREATE TABLE @.orders (id bigint PRIMARY KEY, kind @.kind NOT NULL, amount numeric(8,2) NOT NULL CHECK (amount > 0), at timestamptz,
	note text, raw bytea, tags jsonb, ratio float8, written timestamptz NOT NULL DEFAULT now(), twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
	line bigint GENERATED ALWAYS AS IDENTITY)`

func anOrder(id int64) order {
	note := "tab\tline\nback\\slash\r \\N \\."
	return order{
		ID: id, Kind: "sell", Amount: "12.50", At: time.Date(2001, 2, 3, 4, 5, 6, 7000, time.FixedZone("", 3600)),
		Note: &note, Raw: []byte{0, '\\', '\n', 255}, Tags: []string{"a", `"b"`}, Ratio: 0.1,
	}
}

// ofOne is the surroundings of the only subtask of an attempt.
func ofOne(epoch uint64) sdk.SinkEnv {
	return sdk.SinkEnv{UID: "to-orders", Lineage: "line", Epoch: epoch, Parallelism: 1, Held: func() {}, Fail: func(error) {}}
}

func (d *database) sink() Rows[order] { return Sink[order](d.url, d.schema+".orders").Schema(d.schema) }

// stage writes rows, and returns the handle of checkpoint 1 or why there is none.
func stage(t *testing.T, s Rows[order], epoch uint64, rows ...order) (sdk.Handle, error) {
	t.Helper()
	w, err := s.Open(t.Context(), ofOne(epoch))
	if err != nil {
		return sdk.Handle{}, err
	}
	defer w.Close()
	if err := w.Write(&sdk.Batch[order]{Values: rows}); err != nil {
		return sdk.Handle{}, err
	}
	finish, err := w.(sdk.Preparer).Prepare(1)
	if err != nil {
		return sdk.Handle{}, err
	}
	h, err := finish(t.Context())
	return sdk.Handle{Value: h}, err
}

func mustStage(t *testing.T, s Rows[order], epoch uint64, rows ...order) sdk.Handle {
	t.Helper()
	h, err := stage(t, s, epoch, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func codeOf(err error) string {
	if c, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		return c.ErrorCode()
	}
	return ""
}

// wantRefused fails unless err ends the job and says each of these.
func wantRefused(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	if codeOf(err) != "output-refused" {
		t.Errorf("%s: %v: want a refusal", what, err)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %v: it does not say %q", what, err, s)
		}
	}
}

func TestEachTypeArrivesAsItIs(t *testing.T) {
	d := newDatabase(t)
	d.exec(orders)
	s := d.sink()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	want := anOrder(1)
	empty := order{ID: 2, Kind: "buy", Amount: "1", Tags: nil, At: time.Unix(0, 0)}
	h := mustStage(t, s, 1, want, empty)
	if err := s.Commit(t.Context(), ofOne(1), 1, []sdk.Handle{h}); err != nil {
		t.Fatal(err)
	}
	rows, _ := d.conn.Query(t.Context(), "SELECT id, kind::text, amount::text, at, note, raw, tags, ratio FROM "+d.schema+".orders ORDER BY id")
	got, err := pgx.CollectRows(rows, pgx.RowToStructByNameLax[order])
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].At = got[i].At.UTC()
	}
	want.At, empty.At, empty.Amount = want.At.UTC(), empty.At.UTC(), "1.00"
	if diff := cmp.Diff([]order{want, empty}, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if twice := query[string](d, "SELECT twice::text FROM @.orders ORDER BY id"); twice[0] != "25.00" {
		t.Errorf("generated columns %v", twice)
	}
}

// What breaks a type, NOT NULL or CHECK is refused before the checkpoint
// counts on it, what breaks a unique key with the commit.
func TestRefusalsNameTableConstraintAndRow(t *testing.T) {
	d := newDatabase(t)
	d.exec(orders)
	s := d.sink()
	for what, c := range map[string]struct {
		change func(*order)
		says   []string
	}{
		"a number that is none":  {func(o *order) { o.Amount = "a lot" }, []string{"amount", "a lot", "orders"}},
		"no member of the enum":  {func(o *order) { o.Kind = "lend" }, []string{"lend"}},
		"a CHECK":                {func(o *order) { o.Amount = "0" }, []string{"orders_amount_check", "Failing row contains (7, sell, 0.00"}},
		"a number too large":     {func(o *order) { o.Amount = "12345678" }, []string{"overflow"}},
		"a zero byte in a text":  {func(o *order) { o.Kind = "a\x00" }, []string{"0x00"}},
		"a text that is no UTF8": {func(o *order) { o.Kind = "\xff" }, []string{"0xff"}},
	} {
		bad := anOrder(7)
		c.change(&bad)
		_, err := stage(t, s, 1, anOrder(6), bad)
		wantRefused(t, what, err, c.says...)
	}
	if err := s.Commit(t.Context(), ofOne(1), 1, []sdk.Handle{mustStage(t, s, 1, anOrder(1))}); err != nil {
		t.Fatal(err)
	}
	h := mustStage(t, s, 2, anOrder(2), anOrder(1))
	for range 2 { // and it stays refused
		err := s.Recover(t.Context(), ofOne(2), 2, []sdk.Handle{h})
		wantRefused(t, "a unique key", err, "orders_pkey", "Key (id)=(1) already exists", "orders")
		if got := query[int64](d, "SELECT id FROM @.orders"); len(got) != 1 {
			t.Errorf("rows %v: half of a commit is visible", got)
		}
	}
	d.exec("DELETE FROM @.orders WHERE id = 1") // the user mends it
	if err := s.Recover(t.Context(), ofOne(3), 2, []sdk.Handle{h}); err != nil {
		t.Fatal(err)
	}
	if got := query[int64](d, "SELECT id FROM @.orders ORDER BY id"); len(got) != 2 {
		t.Errorf("rows %v", got)
	}
}

func TestOpeningFindsWhatCanNotWork(t *testing.T) {
	d := newDatabase(t)
	_, err := stage(t, d.sink(), 1)
	wantRefused(t, "a table that is missing", err, "orders")
	d.exec("CREATE TABLE @.orders (id bigint, kind text)")
	_, err = stage(t, d.sink(), 1)
	wantRefused(t, "a column that is missing", err, `no column "amount"`, "id, kind")
	d.exec("DROP TABLE @.orders;" + orders)
	_, err = stage(t, d.sink().Upsert("kind"), 1)
	wantRefused(t, "an upsert without a unique key", err, "ON CONFLICT")
	d.exec("DROP TABLE @.orders; CREATE TABLE @.orders (id timestamptz, kind text, amount text, at text, note text, raw text, tags text, ratio text)")
	_, err = stage(t, d.sink(), 1, anOrder(1))
	wantRefused(t, "a column of another type", err, "timestamp")
}

func TestAnUpsertKeepsTheLastRowOfAKey(t *testing.T) {
	d := newDatabase(t)
	d.exec(orders)
	s := d.sink().Upsert("id")
	ratio := func(id int64, r float64) order {
		o := anOrder(id)
		o.Ratio = r
		return o
	}
	for epoch, rows := range [][]order{{ratio(1, 1), ratio(2, 1), ratio(1, 2)}, {ratio(2, 3), ratio(3, 3)}} {
		h := mustStage(t, s, uint64(epoch+1), rows...)
		if err := s.Recover(t.Context(), ofOne(uint64(epoch+1)), 1, []sdk.Handle{h}); err != nil {
			t.Fatal(err)
		}
	}
	got := query[string](d, "SELECT id || '=' || ratio FROM @.orders ORDER BY id")
	if diff := cmp.Diff([]string{"1=2", "2=3", "3=3"}, got); diff != "" {
		t.Error(diff)
	}
}

// Two subtasks and several transactions with the same key: the newest wins.
func TestAnUpsertOrdersTransactions(t *testing.T) {
	d := newDatabase(t)
	d.exec(orders)
	s := d.sink().Upsert("id")
	w, err := s.Open(t.Context(), ofOne(1))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var handles []sdk.Handle
	for id := range uint64(3) { // two checkpoints fail, the third holds all handles
		o := anOrder(1)
		o.Ratio = float64(id)
		if err := w.Write(&sdk.Batch[order]{Values: []order{o}}); err != nil {
			t.Fatal(err)
		}
		finish, err := w.(sdk.Preparer).Prepare(id)
		if err != nil {
			t.Fatal(err)
		}
		h, err := finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		handles = append([]sdk.Handle{{Value: h}}, handles...)
	}
	if err := s.Commit(t.Context(), ofOne(1), 3, handles); err != nil {
		t.Fatal(err)
	}
	if got := query[float64](d, "SELECT ratio FROM @.orders"); len(got) != 1 || got[0] != 2 {
		t.Errorf("ratios %v, want the newest: 2", got)
	}
}

// A process that is stopped in the middle of a COPY, or of a transaction that
// holds locks, must not hold up the recovery.
func TestAStoppedProcessHoldsUpNoRecovery(t *testing.T) {
	d := newDatabase(t)
	d.exec(orders)
	s := d.sink()
	h := mustStage(t, s, 1, anOrder(1))
	id := idOf("line", "to-orders")
	zombie := func() *pgx.Conn {
		c, err := connect(t.Context(), s.config, sessionName(id, 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(context.Background()) })
		return c
	}
	copying, locking := zombie(), zombie()
	read, write := newPipe(t)
	ended := make(chan error)
	go func() {
		_, err := copying.PgConn().CopyFrom(context.Background(), read, s.to.copySQL(stageName(id, 1)))
		ended <- err
	}()
	write("5\t1\t0\t9\tsell\t1\t2001-01-01\t\\N\t\\N\t\\N\t0\n")
	if _, err := locking.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := locking.Exec(t.Context(), strings.ReplaceAll("SELECT * FROM @.sinks FOR UPDATE", "@", d.schema)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.Recover(t.Context(), ofOne(2), 1, []sdk.Handle{h}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the recovery took %v", took)
	}
	write("")
	if err := <-ended; err == nil {
		t.Error("the COPY of a stopped process went on")
	}
	if rows, tables := d.staged(); rows != 0 || tables != 0 {
		t.Errorf("%d rows in %d tables are left", rows, tables)
	}
	if got := query[int64](d, "SELECT id FROM @.orders"); len(got) != 1 {
		t.Errorf("rows %v", got)
	}
}

// A role that may make nothing but tables in the sink's schema is enough.
func TestARoleWithFewRights(t *testing.T) {
	d := newDatabase(t)
	d.exec(orders)
	role := d.schema + "_writer"
	d.exec(fmt.Sprintf("CREATE ROLE %s LOGIN; CREATE SCHEMA %s_sink AUTHORIZATION %s; GRANT USAGE ON SCHEMA @ TO %s; GRANT SELECT, INSERT ON @.orders TO %s",
		role, d.schema, role, role, role))
	t.Cleanup(func() {
		d.exec(fmt.Sprintf("DROP SCHEMA %s_sink CASCADE; REVOKE ALL ON ALL TABLES IN SCHEMA @ FROM %s; REVOKE ALL ON SCHEMA @ FROM %s; DROP ROLE %s",
			d.schema, role, role, role))
	})
	s := Sink[order](strings.Replace(d.url, "user=postgres", "user="+role, 1), d.schema+".orders").Schema(d.schema + "_sink")
	h := mustStage(t, s, 1, anOrder(1))
	if err := s.Recover(t.Context(), ofOne(2), 1, []sdk.Handle{h}); err != nil {
		t.Fatal(err)
	}
	if got := query[int64](d, "SELECT id FROM @.orders"); len(got) != 1 {
		t.Errorf("rows %v", got)
	}
	d.exec("REVOKE INSERT ON @.orders FROM " + role)
	_, err := stage(t, s, 3)
	wantRefused(t, "a table that may not be written", err, "permission denied")
}

// A handle says by itself where its rows belong: the new version of a job may
// write other columns.
func TestAHandleOutlivesItsColumns(t *testing.T) {
	type orderNow struct {
		ID     int64  `db:"id"`
		Kind   string `db:"kind"`
		Amount string `db:"amount"`
	}
	d := newDatabase(t)
	d.exec(orders)
	h := mustStage(t, d.sink(), 1, anOrder(1))
	now := Sink[orderNow](d.url, d.schema+".orders").Schema(d.schema).Upsert("id")
	if err := now.Recover(t.Context(), ofOne(2), 1, []sdk.Handle{h}); err != nil {
		t.Fatal(err)
	}
	if got := query[float64](d, "SELECT ratio FROM @.orders"); len(got) != 1 || got[0] != 0.1 {
		t.Errorf("ratios %v", got)
	}
}

func TestStagedRowsThatAreGoneAreNotPassedOver(t *testing.T) {
	d := newDatabase(t)
	d.exec(orders)
	s := d.sink()
	h := mustStage(t, s, 1, anOrder(1), anOrder(2))
	d.exec("DELETE FROM @." + stageName(idOf("line", "to-orders"), 1) + " WHERE id = 2")
	err := s.Commit(t.Context(), ofOne(1), 1, []sdk.Handle{h})
	wantRefused(t, "a row that is gone", err, "1 rows", "names 2")
	if got := query[int64](d, "SELECT id FROM @.orders"); len(got) != 0 {
		t.Errorf("rows %v", got)
	}
}

func TestPlansThatAreRefused(t *testing.T) {
	type twice struct {
		A int `db:"a"`
		B int `db:"a"`
	}
	type odd struct{ C chan int }
	type lasting struct{ D time.Duration }
	for want, check := range map[string]func() error{
		"structs":           Sink[int]("", "t").Check,
		"two fields":        Sink[twice]("", "t").Check,
		"chan int":          Sink[odd]("", "t").Check,
		"time.Duration":     Sink[lasting]("", "t").Check,
		"schema.table":      Sink[item]("", "a.b.c").Check,
		"no column":         Sink[item]("", "t").Upsert("id").Check,
		"names no column":   Sink[item]("", "t").Upsert().Check,
		"cannot parse":      Sink[item]("postgres://a:b:c@/%zz", "t").Check,
		"table or schema.t": Sink[item]("", "").Check,
	} {
		if err := check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %s", err, want)
		}
	}
}
