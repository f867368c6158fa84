package postgres

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest/sinktest"
)

type item struct {
	N    int    `db:"n"`
	Text string `db:"text"`
}

// flaky is the network between a sink and the database: from the n-th sending on
// all connections break, every other one after the server has got what was
// sent.
type flaky struct{ left atomic.Int64 }

func (f *flaky) Fail(n int) { f.left.Store(int64(n)) }

var errCut = errors.New("the connection is cut")

func (f *flaky) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if f.left.Load() == 1 {
		return nil, errCut
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &flakyConn{Conn: c, f: f}, nil
}

type flakyConn struct {
	net.Conn
	f    *flaky
	sent int
}

func (c *flakyConn) Write(b []byte) (int, error) {
	c.sent++
	switch n := c.f.left.Load(); {
	case n == 1:
		if c.sent%2 == 0 {
			_, _ = c.Conn.Write(b)
		}
		c.Conn.Close()
		return 0, errCut
	case n > 1:
		c.f.left.CompareAndSwap(n, n-1)
	}
	return c.Conn.Write(b)
}

// impatient makes a sink give up at once.
func (s Rows[T]) impatient() Rows[T] {
	s.patience.call, s.patience.stage = 0, 0
	return s
}

func (s Rows[T]) over(f *flaky) Rows[T] {
	s.config = s.config.Copy()
	s.config.DialFunc = f.dial
	return s
}

func suiteTarget(d *database, sink func() Rows[item]) sinktest.Target[item] {
	f := &flaky{}
	return sinktest.Target[item]{
		Sink:   func() sdk.Sink[item] { return sink().Schema(d.schema).impatient().over(f) },
		Record: func(n int) item { return item{n, "a\tb\\c\nd"} },
		Visible: func(context.Context) ([]int, error) {
			for _, text := range query[string](d, "SELECT DISTINCT text FROM @.items") {
				if text != "a\tb\\c\nd" {
					return nil, errors.New("the text has become " + text)
				}
			}
			return query[int](d, "SELECT n FROM @.items"), nil
		},
		Garbage: func(context.Context) (int, error) {
			rows, tables := d.staged()
			return rows + tables, nil
		},
		Fail: f.Fail,
	}
}

// TestTheSinkKeepsItsPromises runs the suite of transactional sinks against a
// real server.
func TestTheSinkKeepsItsPromises(t *testing.T) {
	databaseURL(t)
	t.Run("append", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) sinktest.Target[item] {
			d := newDatabase(t)
			d.exec("CREATE TABLE @.items (id bigserial PRIMARY KEY, n int NOT NULL CHECK (n >= 0), text text NOT NULL)")
			return suiteTarget(d, func() Rows[item] { return Sink[item](d.url, d.schema+".items") })
		}, sinktest.Options{Seeds: 20})
	})
	t.Run("upsert", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) sinktest.Target[item] {
			d := newDatabase(t)
			d.exec("CREATE TABLE @.items (n int PRIMARY KEY, text text NOT NULL)")
			return suiteTarget(d, func() Rows[item] { return Sink[item](d.url, d.schema+".items").Upsert("n") })
		}, sinktest.Options{Seeds: 8, First: 100})
	})
}
