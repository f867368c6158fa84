package dispatch

import (
	"path"
	"slices"
	"strings"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
)

// reserved are the first segments of keys that the cluster itself writes, and
// deletes by prefix (docs/protocols.md, section 7).
var reserved = []string{"cluster", "journal", "journal-snapshot", "binaries", "jars", "jobs", ".millrace"}

// SavepointDirectory is the bucket prefix that a user's directory for savepoints
// means, without slashes around it; empty for the default. It may be given with
// the URL of the cluster's bucket before it.
func (d *Dispatcher) SavepointDirectory(dir string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", api.Errorf(api.BadRequest, "savepoint directory %q %s", dir, why).
			With("Give a folder inside the cluster's bucket, such as backups/monday, or none for savepoints.")
	}
	p, named := d.inBucket(dir)
	switch {
	case strings.Contains(p, "://"):
		return refuse("is not in this cluster's bucket " + d.cfg.Bucket.URL())
	case strings.HasPrefix(p, "/") && !named:
		return refuse("is an absolute path: savepoints go to the bucket")
	}
	if slices.Contains(strings.Split(p, "/"), "..") {
		return refuse("leaves its folder by \"..\"")
	}
	p = strings.Trim(path.Clean("/"+p), "/")
	if first, _, _ := strings.Cut(p, "/"); slices.Contains(reserved, first) {
		return refuse("begins with " + first + ", which the cluster keeps for itself and deletes from")
	}
	if p != "" {
		if err := blob.ValidateKey(p); err != nil {
			return refuse("names no folder of a bucket: " + err.Error())
		}
	}
	return p, nil
}

// inBucket takes the bucket's URL off a path; named says that it was there.
func (d *Dispatcher) inBucket(p string) (rest string, named bool) {
	url := strings.TrimSuffix(d.cfg.Bucket.URL(), "/")
	if p == url {
		return "", true
	}
	if rest, named := strings.CutPrefix(p, url+"/"); named {
		return rest, true
	}
	return p, false
}
