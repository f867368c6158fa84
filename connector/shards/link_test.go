package shards

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/client"
)

// hearsay is a host that hears of a stream step by step, one a question.
type hearsay struct {
	knows   []pb.Stream_Status // 0: nothing; the last one stays
	create  error
	created int
	asked   int

	generation uint64
	split      time.Time // when it hears that shard 3 was
}

func (h *hearsay) Describe(_ context.Context, name string) (*pb.Stream, error) {
	h.asked++
	status := h.knows[0]
	if len(h.knows) > 1 {
		h.knows = h.knows[1:]
	}
	if status == 0 {
		return nil, stream.Errorf(stream.NotFound, "stream %s does not exist", name)
	}
	s := &pb.Stream{Name: name, Status: status, Generation: h.generation, Shards: []*pb.Shard{{Index: 3}}}
	if !time.Now().Before(h.split) {
		s.Shards = []*pb.Shard{{Index: 3, Closed: true}, {Index: 4, Parent: 4}, {Index: 5, Parent: 4}}
	}
	return s, nil
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

// A host that has not heard of a split yet is asked now and then, not all the time.
func TestEnsureWaitsUntilAShardIsKnownToBeClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		old := &hearsay{knows: []pb.Stream_Status{active}, split: began.Add(time.Second)}
		s, err := ensure(context.Background(), old, "out", 4, client.Shard{Stream: "out", Index: 3})
		if err != nil || len(s.GetShards()) != 3 || time.Since(began) > time.Second+hostsPoll || old.asked > 300 {
			t.Errorf("got %v, %v after %v and %d questions, want the children after a second", s, err, time.Since(began), old.asked)
		}
		again := &hearsay{knows: []pb.Stream_Status{active}, split: time.Now().Add(time.Hour), generation: 2}
		if _, err := ensure(context.Background(), again, "out", 4, client.Shard{Stream: "out", Generation: 1, Index: 3}); err != nil || again.asked != 1 {
			t.Errorf("a stream that was created again: %v after %d questions", err, again.asked)
		}
	})
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
