//go:build linux

package chaos

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/manifest"
)

// mostOrphans is how many objects without a manifest may be left when the jobs
// have ended: those of the last attempts, which nobody has come to sweep.
const mostOrphans = 30

// garbage waits until the bucket is in order: what jobs that have ended leave
// behind is deleted beside everything else.
func (r *run) garbage(ctx context.Context) error {
	return eventually(ctx, r.cfg.Patience, "the bucket is in order", func() (bool, string) {
		err := r.tidy(ctx)
		return err == nil, fmt.Sprint(err)
	})
}

// tidy looks at what the jobs left in the bucket: a manifest that names an object
// which is gone is a failure, and so are many objects that none names.
func (r *run) tidy(ctx context.Context) error {
	there, named := map[string]bool{}, map[string]string{}
	var manifests []string
	for _, prefix := range []string{"jobs/", "savepoints/"} {
		err := r.bucket.List(ctx, prefix, func(i blob.Info) error {
			switch {
			case strings.Contains(i.Key, "/checkpoints/"), strings.HasSuffix(i.Key, "/manifest"):
				manifests = append(manifests, i.Key)
			case strings.Contains(i.Key, "/state"):
				there[i.Key] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, key := range manifests {
		m, err := manifest.Read(ctx, r.bucket, key)
		if err != nil {
			return fmt.Errorf("garbage: %w", err)
		}
		for _, object := range manifest.Objects(m) {
			named[object] = key
		}
	}
	for object, key := range named {
		if !there[object] {
			return fmt.Errorf("garbage: %s names %s, which is gone", key, object)
		}
		delete(there, object)
	}
	r.report.Orphans = len(there)
	r.cfg.Log("%d manifests, %d objects that they name, %d that none names", len(manifests), len(named), len(there))
	if len(there) > mostOrphans {
		return fmt.Errorf("garbage: %d objects that no manifest names are left", len(there))
	}
	return nil
}

// kindInFlight is that of an operator's entries with records that a barrier has
// overtaken: docs/formats/inflight.md.
const kindInFlight = "in-flight"

// inFlight says whether the checkpoint that an attempt commits holds records. It
// was taken by this attempt, or it is what this one was restored from.
func (r *run) inFlight(epoch, checkpoint uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	newest, at := uint64(0), ""
	for _, prefix := range []string{"jobs/", "savepoints/"} {
		err := r.bucket.List(ctx, prefix, func(i blob.Info) error {
			m := manifestKey.FindStringSubmatch(i.Key)
			if m == nil {
				return nil
			}
			of, _ := strconv.ParseUint(m[1], 10, 64)
			id, _ := strconv.ParseUint(m[2], 10, 64)
			// One of the same number that is older was never completed.
			if id == checkpoint && of <= epoch && of >= newest {
				newest, at = of, i.Key
			}
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("look for checkpoint %d of epoch %d: %w", checkpoint, epoch, err)
		}
	}
	if at == "" {
		return false, fmt.Errorf("commit before completion: checkpoint %d is committed by epoch %d, and has no manifest", checkpoint, epoch)
	}
	m, err := manifest.Read(ctx, r.bucket, at)
	if err != nil {
		return false, err
	}
	for _, o := range m.GetOperators() {
		for _, e := range o.GetEntries() {
			if e.GetKind() == kindInFlight {
				return true, nil
			}
		}
	}
	return false, nil
}

var manifestKey = regexp.MustCompile(`^(?:jobs/[^/]+/checkpoints/|savepoints/[0-9a-f]+-)(\d+)-(\d+)(?:/manifest)?$`)
