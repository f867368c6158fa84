package shards

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

// hearsay is a host that hears of a stream step by step, one a question.
type hearsay struct {
	knows   []pb.Stream_Status // 0: nothing; the last one stays
	create  error
	created int
}

func (h *hearsay) Describe(_ context.Context, name string) (*pb.Stream, error) {
	status := h.knows[0]
	if len(h.knows) > 1 {
		h.knows = h.knows[1:]
	}
	if status == 0 {
		return nil, stream.Errorf(stream.NotFound, "stream %s does not exist", name)
	}
	return &pb.Stream{Name: name, Status: status}, nil
}

func (h *hearsay) Command(context.Context, *pb.StreamCommand) error {
	h.created++
	return h.create
}

const (
	creating = pb.Stream_STATUS_CREATING
	active   = pb.Stream_STATUS_ACTIVE
)

func TestEnsureWaitsUntilAStreamCanBeWritten(t *testing.T) {
	exists := stream.Errorf(stream.Exists, "stream out exists")
	for _, c := range []struct {
		name string
		host hearsay
		asks int // to create
	}{
		{"it is there", hearsay{knows: []pb.Stream_Status{active}}, 0},
		{"it is missing", hearsay{knows: []pb.Stream_Status{0, active}}, 1},
		{"another subtask creates it, this host has not heard", hearsay{knows: []pb.Stream_Status{0, 0, 0, creating, active}, create: exists}, 1},
		{"it is being created", hearsay{knows: []pb.Stream_Status{creating, creating, active}}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, err := ensure(context.Background(), &c.host, "out", 4)
			if err != nil || s.GetStatus() != active || c.host.created != c.asks {
				t.Errorf("%s: got %v, %v after %d commands to create it, want it active after %d", c.name, s, err, c.host.created, c.asks)
			}
		})
	}
}

func TestEnsureGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := ensure(context.Background(), &hearsay{knows: []pb.Stream_Status{0, creating}}, "out", 4)
		if stream.KindOf(err) != stream.Unavailable {
			t.Errorf("a stream that is never opened: %v, want unavailable", err)
		}
		began := time.Now()
		_, err = ensure(context.Background(), &hearsay{knows: []pb.Stream_Status{0}, create: stream.Errorf(stream.Exists, "it exists")}, "out", 4)
		if took := time.Since(began); stream.KindOf(err) != stream.Unavailable || took < heardWait || took > 2*heardWait {
			t.Errorf("a stream that this host never hears of: %v after %v, want unavailable after %v", err, took, heardWait)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := ensure(ctx, &hearsay{knows: []pb.Stream_Status{creating}}, "out", 4); !errors.Is(err, context.Canceled) {
			t.Errorf("a wait that is given up: %v, want canceled", err)
		}
		full := stream.Errorf(stream.InvalidArgument, "too many")
		if _, err := ensure(context.Background(), &hearsay{knows: []pb.Stream_Status{0}, create: full}, "out", 4); stream.KindOf(err) != stream.InvalidArgument {
			t.Errorf("a stream that cannot be created: %v, want invalid argument", err)
		}
	})
}
