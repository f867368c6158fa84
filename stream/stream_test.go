package stream_test

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/millrace/millrace/stream"
)

func TestEvenRangesPartitionTheSpaceAsKinesisDoes(t *testing.T) {
	two := stream.EvenRanges(2)
	if got := two[1].First.String(); got != "170141183460469231731687303715884105728" {
		t.Errorf("the second of two shards starts at %s, want 2^127", got)
	}
	for _, n := range []int{1, 2, 3, 7, 1000} {
		ranges := stream.EvenRanges(n)
		shards := make([]uint32, n)
		for i := range shards {
			shards[i] = uint32(i)
		}
		r, err := stream.NewRouter(ranges, shards)
		if err != nil {
			t.Fatalf("%d shards: %v", n, err)
		}
		for i, g := range ranges {
			for _, h := range []stream.HashKey{g.First, g.Last} {
				if _, shard := r.Shard(h); shard != uint32(i) || !g.Contains(h) {
					t.Errorf("%d shards: %v goes to shard %d, want %d", n, h, shard, i)
				}
			}
		}
		if n > 1 {
			if _, err := stream.NewRouter(ranges[1:], shards[1:]); err == nil {
				t.Errorf("%d shards: a router over a gap was built", n)
			}
		}
	}
}

func TestHashKeysAreDecimal(t *testing.T) {
	want, _ := new(big.Int).SetString("3c6e0b8a9c15224a8228b9a98ca1531d", 16) // MD5 of "key"
	if got := stream.HashOf("key").String(); got != want.String() {
		t.Errorf("the hash of key is %s, want %s", got, want)
	}
	for _, s := range []string{"0", "1", stream.MaxHashKey.String()} {
		if h, err := stream.ParseHashKey(s); err != nil || h.String() != s {
			t.Errorf("%s is read as %v, %v", s, h, err)
		}
	}
	for _, s := range []string{"", "-1", "+1", "00", "0x1", "340282366920938463463374607431768211456", strings.Repeat("9", 50)} {
		if _, err := stream.ParseHashKey(s); !errors.Is(err, &stream.Error{Kind: stream.InvalidArgument}) {
			t.Errorf("%q was read: %v", s, err)
		}
	}
}

func TestSequenceNumbersLookLikeThoseOfKinesisAndRise(t *testing.T) {
	var last *big.Int
	for _, place := range []uint64{0, 1, 2, 255, 1 << 32, 1<<64 - 1} {
		s := stream.NewSequence(1_795_000_000, 3, place)
		text := s.String()
		if len(text) != 56 || !strings.HasPrefix(text, "49") {
			t.Errorf("place %d is %s, want 56 digits from 49 on", place, text)
		}
		back, err := stream.ParseSequence(text)
		if err != nil || back != s {
			t.Errorf("%s is read as %v, %v", text, back, err)
		}
		n, _ := new(big.Int).SetString(text, 10)
		if last != nil && n.Cmp(last) <= 0 {
			t.Errorf("%v does not rise above %v", n, last)
		}
		last = n
		if err := s.Of(1_795_000_000, 3); err != nil {
			t.Error(err)
		}
		for _, other := range []error{s.Of(1_795_000_000, 4), s.Of(1_795_000_001, 3)} {
			if stream.KindOf(other) != stream.InvalidArgument {
				t.Errorf("a foreign number was taken: %v", other)
			}
		}
	}
	good := stream.NewSequence(1_795_000_000, 3, 9).String()
	for _, s := range []string{"", "0", "1", good[:55], good + "0", good[:55] + "9", strings.Repeat("9", 56), "4" + good[1:10] + "x" + good[11:]} {
		if _, err := stream.ParseSequence(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

func TestErrorsKeepTheirKindAcrossTheWire(t *testing.T) {
	cause := errors.New("cause")
	for k := stream.Internal; k <= stream.Corrupt; k++ {
		err := fmt.Errorf("somewhere: %w", stream.Errorf(k, "what: %w", cause))
		if stream.KindOf(err) != k || !errors.Is(err, cause) {
			t.Errorf("kind %v is %v", k, stream.KindOf(err))
		}
		back := stream.FromProto(stream.ToProto(err))
		if stream.KindOf(back) != k || back.Error() != "somewhere: what: cause" {
			t.Errorf("kind %v comes back as %v: %v", k, stream.KindOf(back), back)
		}
	}
}

func TestShardNames(t *testing.T) {
	if got := stream.ShardName(7); got != "shardId-000000000007" {
		t.Error(got)
	}
	for s, want := range map[string]uint32{"shardId-000000000007": 7, "shardId-0": 0, "x-12": 12} {
		if n, err := stream.ParseShardName(s); err != nil || n != want {
			t.Errorf("%s is shard %d (%v), want %d", s, n, err, want)
		}
	}
	for _, s := range []string{"", "7", "-7", "shardId-", "shardId-x", "shardId-99999999999"} {
		if _, err := stream.ParseShardName(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}
