package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := theServer.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the server of the tests:", err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// theServer is the PostgreSQL server of all tests of this package, in a folder
// of its own, reached through a socket there.
var theServer server

type server struct {
	once   sync.Once
	err    error
	folder string
	bin    string
	as     *syscall.SysProcAttr
	cmd    *exec.Cmd
	log    *os.File
}

// databaseURL starts the server if need be and returns where it is.
func databaseURL(t testing.TB) string {
	t.Helper()
	theServer.once.Do(func() { theServer.err = theServer.start() })
	if errors.Is(theServer.err, errNoServer) {
		if required("postgres") {
			t.Fatal(theServer.err)
		}
		t.Skip(theServer.err)
	}
	if theServer.err != nil {
		t.Fatal("start a PostgreSQL server: ", theServer.err)
	}
	return fmt.Sprintf("host=%s user=postgres dbname=postgres", theServer.folder)
}

// required says whether MILLRACE_REQUIRE, a list, has a tool: then its tests
// must not be skipped.
func required(tool string) bool {
	return slices.Contains(strings.Split(os.Getenv("MILLRACE_REQUIRE"), ","), tool)
}

var errNoServer = errors.New("PostgreSQL is not installed (Debian: apt-get install postgresql), or its user postgres is missing where the tests run as root")

// start makes a new cluster of databases and runs it, as the user postgres where
// the tests run as root: the server refuses root.
func (s *server) start() (err error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return errNoServer
	}
	slices.Sort(found)
	s.bin = filepath.Dir(found[len(found)-1])
	if s.folder, err = os.MkdirTemp("/tmp", "millrace-pg-"); err != nil {
		return err
	}
	s.as = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return errNoServer
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.folder, uid, gid); err != nil {
			return err
		}
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = s.as, "/"
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if s.log, err = os.Create(s.folder + ".log"); err != nil {
		return err
	}
	return s.run()
}

func (s *server) data() string { return filepath.Join(s.folder, "data") }

// run starts the server and waits until it answers. Its commits do not wait for
// the disk: no test cuts the power.
func (s *server) run() error {
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-k", s.folder, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60")
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.as, "/", s.log, s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s user=postgres dbname=postgres", s.folder))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(s.log.Name())
			return fmt.Errorf("%w: %w: %s", ctx.Err(), err, bytes.TrimSpace(text))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends the server as a crash does and waits for it.
func (s *server) kill() error {
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		return err
	}
	_ = s.cmd.Wait()
	return nil
}

func (s *server) stop() error {
	if s.cmd == nil {
		return nil
	}
	err := s.kill()
	s.log.Close()
	return errors.Join(err, os.RemoveAll(s.folder), ignoreAbsent(os.Remove(s.log.Name())))
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// database is a connection of a test's own, and a schema of its own for tables
// and for the sink.
type database struct {
	t      testing.TB
	url    string
	schema string
	conn   *pgx.Conn
}

var schemas struct {
	sync.Mutex
	n int
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	d := &database{t: t, url: databaseURL(t)}
	schemas.Lock()
	schemas.n++
	d.schema = fmt.Sprintf("test_%d", schemas.n)
	schemas.Unlock()
	var err error
	if d.conn, err = pgx.Connect(t.Context(), d.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.exec("DROP SCHEMA IF EXISTS " + d.schema + " CASCADE")
		d.conn.Close(context.Background())
	})
	d.exec("SET client_min_messages TO warning")
	d.exec("CREATE SCHEMA " + d.schema)
	return d
}

// exec runs statements in which @ stands for the test's schema.
func (d *database) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.conn.Exec(context.Background(), strings.ReplaceAll(sql, "@", d.schema), args...); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

// query returns the rows of one column.
func query[V any](d *database, sql string, args ...any) []V {
	d.t.Helper()
	rows, err := d.conn.Query(context.Background(), strings.ReplaceAll(sql, "@", d.schema), args...)
	if err == nil {
		var all []V
		if all, err = pgx.CollectRows(rows, pgx.RowTo[V]); err == nil {
			return all
		}
	}
	d.t.Fatalf("%s: %v", sql, err)
	return nil
}

// staged returns how many rows are staged, and how many staging tables there are.
func (d *database) staged() (rows, tables int) {
	d.t.Helper()
	for _, name := range query[string](d, "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 AND starts_with(tablename, 'staged_')", d.schema) {
		rows += query[int](d, "SELECT count(*)::int FROM @."+name)[0]
		tables++
	}
	return rows, tables
}
