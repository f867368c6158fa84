package dispatch

import (
	"testing"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestWhatACatalogMakesUsable(t *testing.T) {
	host := func(address string) *pb.Catalog {
		return &pb.Catalog{Hosts: []*pb.ShardHost{{Id: "a", Address: address}}}
	}
	of := func(generation uint64, status pb.Stream_Status) *pb.Catalog {
		return &pb.Catalog{Streams: []*pb.Stream{{Name: "s", Generation: generation, Status: status}}}
	}
	creating, active := pb.Stream_STATUS_CREATING, pb.Stream_STATUS_ACTIVE
	for _, c := range []struct {
		name         string
		before, next *pb.Catalog
		want         bool
	}{
		{"a host comes", &pb.Catalog{}, host("a:1"), true},
		{"a host comes back", host(""), host("a:1"), true},
		{"a host comes back elsewhere", host("a:1"), host("a:2"), true},
		{"a host stays", host("a:1"), host("a:1"), false},
		{"a host goes", host("a:1"), host(""), false},
		{"a stream is being created", &pb.Catalog{}, of(1, creating), false},
		{"a stream can be written", of(1, creating), of(1, active), true},
		{"a stream stays", of(1, active), of(1, active), false},
		{"a stream takes the name of a deleted one", of(1, active), of(2, active), true},
		{"a stream goes", of(1, active), &pb.Catalog{}, false},
	} {
		if got := usable(c.next, c.before); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
