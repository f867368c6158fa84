package blob

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// Open opens the bucket at a URL:
//
//	mem://                     a new one in this process
//	mem://name                 the one of this name in this process
//	file:///path, /path, path  a folder, made if it is not there
//	s3://bucket/prefix?endpoint=host:port&region=r&insecure=true
//
// For S3, credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
// AWS_SESSION_TOKEN, or from the role that AWS_WEB_IDENTITY_TOKEN_FILE or
// AWS_CONTAINER_CREDENTIALS_… name; region also from AWS_REGION or
// AWS_DEFAULT_REGION. insecure=true speaks plain HTTP. See OpenS3 for
// tested=true, which a URL() returned by a bucket carries.
func Open(ctx context.Context, location string) (Bucket, error) {
	if location == "" {
		return nil, fmt.Errorf("open bucket: the location is empty; give a folder or an s3:// URL")
	}
	if !strings.Contains(location, "://") {
		return OpenFile(location)
	}
	u, err := url.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	switch u.Scheme {
	case "mem":
		return openMemory(u.Host + u.Path), nil
	case "file":
		if u.Host != "" && u.Host != "localhost" {
			return nil, fmt.Errorf("open bucket %s: a file URL has three slashes and an absolute path", location)
		}
		return OpenFile(filepath.FromSlash(u.Path))
	case "s3":
		return OpenS3(ctx, u)
	}
	return nil, fmt.Errorf("open bucket %s: unknown scheme %q; use a folder, file:// or s3://", location, u.Scheme)
}

// begin is how every operation starts: the caller is still there and the key
// is one.
func begin(ctx context.Context, op, key string) error {
	err := ctx.Err()
	if err == nil {
		err = ValidateKey(key)
	}
	if err != nil {
		return fail(op, key, err)
	}
	return nil
}

func fail(op, key string, err error) error {
	return fmt.Errorf("%s %s: %w", op, key, err)
}

// clip turns a range as Get takes it into one within an object of size bytes.
func clip(size, offset, length int64) (from, to int64) {
	from = min(max(offset, 0), size)
	if length < 0 || length > size-from {
		return from, size
	}
	return from, from + length
}

func checkSize(want, got int64) error {
	if want >= 0 && want != got {
		return fmt.Errorf("the source has %d bytes instead of %d", got, want)
	}
	return nil
}
