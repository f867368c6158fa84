package catalog

import (
	"cmp"
	"slices"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

func byName(a, b *pb.Stream) int { return cmp.Compare(a.GetName(), b.GetName()) }

// SetHost says where the shard socket of a task manager is; an empty address
// says that it is away. It returns nil where the catalog says so already.
func SetHost(cat *pb.Catalog, id, address string) *pb.Catalog {
	i := slices.IndexFunc(cat.GetHosts(), func(h *pb.ShardHost) bool { return h.GetId() == id })
	if i >= 0 && cat.GetHosts()[i].GetAddress() == address || i < 0 && address == "" {
		return nil
	}
	next := successor(cat)
	if i >= 0 {
		next.Hosts[i].Address = address
		return next
	}
	next.Hosts = append(next.Hosts, &pb.ShardHost{Id: id, Address: address})
	slices.SortFunc(next.Hosts, func(a, b *pb.ShardHost) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return next
}

// Settle finishes what the hosts have applied: created streams become ACTIVE,
// deleted ones go, split and merged shards give way to their children, and
// streams whose creation waits for a host that went away are placed anew, as are
// children that wait for one. applied maps live task managers to the catalog version that
// they reported last. It returns nil where nothing is to change.
func Settle(cat *pb.Catalog, applied map[string]uint64) *pb.Catalog {
	next := successor(cat)
	changed := false
	kept := next.Streams[:0]
	for _, s := range next.GetStreams() {
		switch s.GetStatus() {
		case pb.Stream_STATUS_CREATING:
			switch {
			case ownersAway(next, s):
				// With nobody to host it, it waits as it is.
				changed = place(next, s) == nil || changed
			case ownersApplied(s, applied, nil):
				s.Status, s.ChangedVersion = pb.Stream_STATUS_ACTIVE, next.GetVersion()
				changed = true
			}
		case pb.Stream_STATUS_UPDATING:
			changed = settleUpdate(next, s, applied) || changed
		case pb.Stream_STATUS_DELETING:
			if ownersApplied(s, applied, next) {
				changed = true
				continue
			}
		}
		kept = append(kept, s)
	}
	if !changed {
		return nil
	}
	next.Streams = kept
	return next
}

// ownersApplied says whether all owners have applied the stream's last change.
// With a catalog, owners that are away are left out: they catch up when they
// come back.
func ownersApplied(s *pb.Stream, applied map[string]uint64, cat *pb.Catalog) bool {
	for _, sh := range s.GetShards() {
		if cat != nil && !live(cat, sh.GetOwner()) {
			continue
		}
		if applied[sh.GetOwner()] < s.GetChangedVersion() {
			return false
		}
	}
	return true
}

func ownersAway(cat *pb.Catalog, s *pb.Stream) bool {
	return slices.ContainsFunc(s.GetShards(), func(sh *pb.Shard) bool { return !live(cat, sh.GetOwner()) })
}

// ending says that a shard takes no more records, or is about to.
func ending(sh *pb.Shard) bool {
	return sh.GetClosed() || sh.GetChange() == pb.Shard_CHANGE_SEALING || sh.GetChange() == pb.Shard_CHANGE_SEALED
}

func live(cat *pb.Catalog, id string) bool {
	return slices.ContainsFunc(cat.GetHosts(), func(h *pb.ShardHost) bool { return h.GetId() == id && h.GetAddress() != "" })
}

// place gives each shard of a stream that holds nothing yet, and has no host or
// one that is away, to the live host with the fewest open shards of that stream,
// then of all streams, then the first by id. It changes nothing where there is
// no host.
func place(cat *pb.Catalog, s *pb.Stream) error {
	load, own := make(map[string]int), make(map[string]int)
	for _, other := range cat.GetStreams() {
		for _, sh := range other.GetShards() {
			if !ending(sh) {
				load[sh.GetOwner()]++
			}
		}
	}
	var hosts []string
	for _, h := range cat.GetHosts() {
		if h.GetAddress() != "" {
			hosts = append(hosts, h.GetId())
		}
	}
	if len(hosts) == 0 {
		return stream.Errorf(stream.NoHosts, "no task manager is there to host the shards of stream %s: start one", s.GetName())
	}
	slices.Sort(hosts)
	for _, sh := range s.GetShards() {
		if ending(sh) {
			continue
		}
		holds := s.GetStatus() == pb.Stream_STATUS_UPDATING && sh.GetChange() != pb.Shard_CHANGE_OPENING
		if holds || sh.GetOwner() != "" && slices.Contains(hosts, sh.GetOwner()) {
			own[sh.GetOwner()]++
			continue
		}
		best := slices.MinFunc(hosts, func(a, b string) int {
			return cmp.Or(cmp.Compare(own[a], own[b]), cmp.Compare(load[a], load[b]))
		})
		load[best]++
		own[best]++
		sh.Owner, sh.OwnerEpoch = best, sh.GetOwnerEpoch()+1
	}
	s.ChangedVersion = cat.GetVersion()
	return nil
}
