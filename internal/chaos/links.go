//go:build linux

package chaos

import (
	"context"
	"fmt"
	"time"
)

// cutLinks closes the connections of one process and refuses it new ones.
func (r *run) cutLinks(ctx context.Context, _ Step) (string, func() error, error) {
	nodes := r.proxy.nodes
	name := nodes[r.rng.IntN(len(nodes))].name
	n := r.proxy.cutNode(name)
	long := r.between(0, stopFor)
	return fmt.Sprintf("%d of %s, refused for %v", n, name, long.Round(time.Millisecond)), r.healAfter(ctx, long), nil
}

// oneWay lets nothing pass from one process to another.
func (r *run) oneWay(ctx context.Context, _ Step) (string, func() error, error) {
	nodes := r.proxy.nodes
	a, b := r.rng.IntN(len(nodes)), r.rng.IntN(len(nodes)-1)
	if b >= a {
		b++
	}
	r.proxy.oneWay(nodes[a].name, nodes[b].name)
	long := r.between(0, 2*stopFor)
	return fmt.Sprintf("%s to %s for %v", nodes[a].name, nodes[b].name, long.Round(time.Millisecond)), r.healAfter(ctx, long), nil
}

func (r *run) healAfter(ctx context.Context, d time.Duration) func() error {
	return func() error {
		err := r.pause(ctx, d)
		r.proxy.heal()
		return err
	}
}

func (r *run) bucketErrors(ctx context.Context, _ Step) (string, func() error, error) {
	return r.breakObjects(ctx, BucketErrors)
}

func (r *run) bucketSlow(ctx context.Context, _ Step) (string, func() error, error) {
	return r.breakObjects(ctx, BucketSlow)
}

func (r *run) bucketReplies(ctx context.Context, _ Step) (string, func() error, error) {
	return r.breakObjects(ctx, BucketReplies)
}

func (r *run) bucketAway(ctx context.Context, _ Step) (string, func() error, error) {
	return r.breakObjects(ctx, BucketAway)
}

// breakObjects makes the bucket fail for a while.
func (r *run) breakObjects(ctx context.Context, k Kind) (string, func() error, error) {
	before := r.objects.hits()
	r.objects.set(k)
	long := r.between(time.Second, 5*time.Second)
	return long.Round(time.Millisecond).String(), func() error {
		err := r.pause(ctx, long)
		r.objects.set("")
		r.cfg.Log("    %d requests were hit", r.objects.hits()-before)
		return err
	}, nil
}
