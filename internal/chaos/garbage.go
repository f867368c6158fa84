//go:build linux

package chaos

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/manifest"
)

// mostOrphans is how many objects without a manifest may be left when the jobs
// have ended: those of the last attempts, which nobody has come to sweep.
const mostOrphans = 30

// garbage looks at what the jobs left in the bucket: a manifest that names an
// object which is gone is a failure, and so are many objects that none names.
func (r *run) garbage(ctx context.Context) error {
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
