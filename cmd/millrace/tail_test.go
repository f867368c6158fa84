package main

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// shard is named by a letter, as are its parents.
func shard(id string, closed bool, parents ...string) types.Shard {
	sh := types.Shard{ShardId: &id, SequenceNumberRange: &types.SequenceNumberRange{}}
	if closed {
		sh.SequenceNumberRange.EndingSequenceNumber = aws.String("9")
	}
	if len(parents) > 0 {
		sh.ParentShardId = &parents[0]
	}
	if len(parents) > 1 {
		sh.AdjacentParentShardId = &parents[1]
	}
	return sh
}

func TestAShardIsBegunWhenItsParentsHaveBeenRead(t *testing.T) {
	a, c, d := shard("a", true), shard("c", true, "a"), shard("d", true)
	b, e := shard("b", false, "a"), shard("e", false, "c", "d")
	all := []types.Shard{a, b, c, d, e}
	expect := func(want string, got []string) {
		t.Helper()
		if fmt.Sprint(got) != want {
			t.Errorf("begins with %v, want %s", got, want)
		}
	}
	l := newLineage(all, false)
	expect("[a d]", l.first())
	expect("[]", l.next("d", all, nil)) // e waits for c, which is not begun
	expect("[b c]", l.next("a", all, nil))
	expect("[e]", l.next("c", all, nil))
	// The same, split and merged while it is read.
	l = newLineage([]types.Shard{shard("a", false), shard("d", false)}, false)
	expect("[a d]", l.first())
	expect("[]", l.next("d", all, nil))
	expect("[b c]", l.next("a", all, nil))
	expect("[e]", l.next("c", all, nil))
	// c was left out, and so was d; a is no longer listed.
	l = newLineage(all[1:], true)
	expect("[b e]", l.first())
	// Who begins at the tips reads children of open shards.
	l = newLineage([]types.Shard{shard("a", false), shard("d", false)}, true)
	expect("[a d]", l.first())
	expect("[b c]", l.next("a", all, nil))
	expect("[]", l.next("c", all, nil))
	expect("[e]", l.next("d", all, nil))
	// The children that a shard names may not be listed yet.
	l = newLineage([]types.Shard{shard("a", false), shard("d", false)}, false)
	expect("[a d]", l.first())
	merged := []types.ChildShard{{ShardId: aws.String("m"), ParentShards: []string{"a", "d"}}}
	expect("[]", l.next("a", []types.Shard{shard("a", false), shard("d", false)}, merged))
	expect("[m]", l.next("d", []types.Shard{shard("a", false), shard("d", false)}, merged))
	// What retention has removed is not waited for.
	l = newLineage([]types.Shard{b, e}, false)
	expect("[b e]", l.first())
}
