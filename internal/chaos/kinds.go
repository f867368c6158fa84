//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// Kinds of faults. A stop is longer than it takes to give a process up; it
// then goes on as a zombie.
const (
	KillWorker      Kind = "kill worker"
	KillTaskManager Kind = "kill task manager"
	KillJobManager  Kind = "kill job manager"
	KillSeveral     Kind = "kills in a row"
	KillAll         Kind = "kill everything"
	StopWorker      Kind = "stop worker"
	StopTaskManager Kind = "stop task manager"
	StopHost        Kind = "stop task manager and worker"
	StopJobManager  Kind = "stop job manager"
	Replace         Kind = "job manager replaced"
	FailpointKill   Kind = "kill at failpoint"
	FailpointStop   Kind = "stop at failpoint"
	FailpointError  Kind = "error at failpoint"
	BucketErrors    Kind = "bucket errors"
	BucketSlow      Kind = "bucket slow"
	BucketReplies   Kind = "bucket replies lost"
	BucketAway      Kind = "bucket away"
	CutLinks        Kind = "connections cut"
	OneWay          Kind = "one-way partition"
	Starve          Kind = "cpu starved"
	Rescale         Kind = "rescale"
	Upgrade         Kind = "upgrade"
	UpgradeKilled   Kind = "upgrade among kills"
	SplitShard      Kind = "split shard"
	MergeShards     Kind = "merge shards"
)

// Step is one fault of a plan.
type Step struct {
	Kind Kind
	// Points to arm, for the kinds at failpoints.
	Points string
	// To is a parallelism, for Rescale and upgrades.
	To int
	// Run replaces the arguments of `millrace run` from an upgrade on.
	Run []string
}

// recipe is how faults of a kind are made.
type recipe struct {
	kind Kind
	// Of so many faults one is of this kind: in a run of all kinds, and in one
	// that mostly kills.
	weight, killing int
	// can says whether a run can make it; every run without.
	can func(*Config) bool
	// make makes one and says what it did. heal ends it where it lasts.
	make func(r *run, ctx context.Context, step Step) (what string, heal func() error, err error)
}

func withPoints(c *Config) bool   { return c.Binaries.Failpoints }
func withRescale(c *Config) bool  { return c.Binaries.Rescale }
func withVersions(c *Config) bool { return c.Binaries.Upgraded != "" }
func withS3(c *Config) bool       { return c.S3 }
func withProxy(c *Config) bool    { return c.Proxy }

// recipes are all kinds. A new one needs a line here.
var recipes = []recipe{
	{KillWorker, 2, 4, nil, (*run).killWorker},
	{KillTaskManager, 2, 4, nil, (*run).killTaskManager},
	{KillJobManager, 2, 2, nil, (*run).killJobManager},
	{KillSeveral, 2, 8, nil, (*run).killSeveral},
	{KillAll, 1, 1, nil, (*run).killAll},
	{StopWorker, 1, 0, nil, (*run).stopWorker},
	{StopTaskManager, 1, 0, nil, (*run).stopTaskManager},
	{StopHost, 1, 0, nil, (*run).stopHost},
	{StopJobManager, 1, 0, nil, (*run).stopJobManager},
	{Replace, 2, 0, nil, (*run).replaceJobManager},
	{FailpointKill, 4, 8, withPoints, (*run).killAtPoint},
	{FailpointStop, 1, 0, withPoints, (*run).stopAtPoint},
	{FailpointError, 1, 0, withPoints, (*run).failAtPoint},
	{BucketErrors, 1, 1, withS3, (*run).bucketErrors},
	{BucketSlow, 1, 1, withS3, (*run).bucketSlow},
	{BucketReplies, 1, 1, withS3, (*run).bucketReplies},
	{BucketAway, 1, 1, withS3, (*run).bucketAway},
	{CutLinks, 1, 1, withProxy, (*run).cutLinks},
	{OneWay, 1, 0, withProxy, (*run).oneWay},
	{Starve, 1, 0, nil, (*run).starve},
	{Rescale, 2, 1, withRescale, (*run).rescale},
	{Upgrade, 1, 1, withVersions, (*run).upgrade},
	{UpgradeKilled, 1, 2, withVersions, (*run).upgradeAmongKills},
	{SplitShard, 2, 2, nil, (*run).splitShard},
	{MergeShards, 2, 2, nil, (*run).mergeShards},
}

// recipeOf finds the recipe of a kind.
func recipeOf(k Kind) (recipe, error) {
	for _, one := range recipes {
		if one.kind == k {
			return one, nil
		}
	}
	var all []string
	for _, one := range recipes {
		all = append(all, string(one.kind))
	}
	return recipe{}, fmt.Errorf("no such fault: %q; there are %s", k, strings.Join(all, ", "))
}

// able says whether a run can make faults of the kind.
func (one recipe) able(c *Config) bool { return one.can == nil || one.can(c) }

// draw draws a kind among those that this run makes.
func (c *Config) draw(rng *rand.Rand) Kind {
	if len(c.Kinds) > 0 {
		able := slices.DeleteFunc(slices.Clone(c.Kinds), func(k Kind) bool {
			one, err := recipeOf(k)
			return err == nil && !one.able(c)
		})
		if len(able) == 0 {
			able = c.Kinds // fault says so
		}
		return able[rng.IntN(len(able))]
	}
	weight := func(one recipe) int {
		switch {
		case !one.able(c):
			return 0
		case c.Killing:
			return one.killing
		default:
			return one.weight
		}
	}
	sum := 0
	for _, one := range recipes {
		sum += weight(one)
	}
	at := rng.IntN(sum)
	for _, one := range recipes {
		if at -= weight(one); at < 0 {
			return one.kind
		}
	}
	panic("chaos: weights do not add up")
}

// between draws a duration.
func (r *run) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.rng.Int64N(int64(most-least)))
}
