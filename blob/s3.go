package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// ErrUnfit: the store cannot do what a Bucket promises.
var ErrUnfit = errors.New("store unfit")

// S3 is a bucket in an S3 store, under a prefix.
//
// PutIfAbsent and CompareAndSwap are PUTs with If-None-Match and If-Match.
// Each carries a nonce in the object's metadata, so that a PUT whose reply
// was lost, and which then meets itself on a retry, is known as a success.
type S3 struct {
	client *minio.Client
	bucket string
	prefix string // "" or ends with a slash
	url    url.URL
}

// nonceHeader is user metadata: what this PUT is called.
const nonceHeader = "Millrace-Nonce"

// partSize is what a Put of unknown size holds in memory at a time.
const partSize = 16 << 20

// OpenS3 opens an s3:// URL (see Open for its parameters). It then proves
// with a few small objects under .millrace-probe that the store obeys the
// conditional headers, and returns an error that wraps ErrUnfit if it does
// not: many stores ignore them, and two leaders would overwrite each other.
// tested=true in the URL skips this; the URL() of an opened bucket has it.
func OpenS3(ctx context.Context, u *url.URL) (*S3, error) {
	b, err := newS3(u)
	if err == nil && u.Query().Get("tested") != "true" {
		err = b.prove(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", u.Redacted(), err)
	}
	return b, nil
}

func newS3(u *url.URL) (*S3, error) {
	q := u.Query()
	b := &S3{bucket: u.Host, prefix: strings.Trim(u.Path, "/"), url: *u}
	if b.bucket == "" {
		return nil, errors.New("it names no bucket; write s3://bucket/prefix")
	}
	if b.prefix != "" {
		if err := ValidateKey(b.prefix); err != nil {
			return nil, err
		}
		b.prefix += "/"
	}
	for name := range q {
		switch name {
		case "endpoint", "region", "insecure", "tested":
		default:
			return nil, fmt.Errorf("unknown parameter %q; known are endpoint, region, insecure", name)
		}
	}
	endpoint := q.Get("endpoint")
	if endpoint == "" {
		endpoint = "s3.amazonaws.com"
	}
	creds, err := credentialsOf(os.Getenv)
	if err != nil {
		return nil, err
	}
	region := firstOf(q.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
	b.client, err = minio.New(endpoint, &minio.Options{
		Creds:      creds,
		Secure:     q.Get("insecure") != "true",
		Region:     region,
		MaxRetries: 4,
	})
	if err != nil {
		return nil, err
	}
	b.client.SetAppInfo("millrace", "1")
	q.Set("tested", "true")
	b.url.RawQuery = q.Encode()
	return b, nil
}

func credentialsOf(env func(string) string) (*credentials.Credentials, error) {
	if env("AWS_ACCESS_KEY_ID") != "" && env("AWS_SECRET_ACCESS_KEY") != "" {
		return credentials.NewEnvAWS(), nil
	}
	for _, role := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if env(role) != "" {
			return credentials.NewIAM(""), nil
		}
	}
	return nil, errors.New("no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// prove checks that the store obeys If-None-Match and If-Match.
func (b *S3) prove(ctx context.Context) error {
	if ok, err := b.client.BucketExists(ctx, b.bucket); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%w: make the bucket first", ErrNotFound)
	}
	key := ".millrace-probe/" + nonce()
	defer b.Delete(context.WithoutCancel(ctx), key)
	first, err := b.PutIfAbsent(ctx, key, []byte("1"))
	if err != nil {
		return err
	}
	if _, err := b.PutIfAbsent(ctx, key, []byte("2")); !errors.Is(err, ErrExists) {
		return fmt.Errorf("%w: it does not obey If-None-Match (answer to a second write: %v); use a store with conditional writes", ErrUnfit, err)
	}
	second, err := b.CompareAndSwap(ctx, key, first, []byte("3"))
	if err != nil {
		return fmt.Errorf("%w: it refuses If-Match with the object's own ETag: %w", ErrUnfit, err)
	}
	if _, err := b.CompareAndSwap(ctx, key, first, []byte("4")); !errors.Is(err, ErrConflict) {
		return fmt.Errorf("%w: it does not obey If-Match (answer to a stale ETag: %v); use a store with conditional writes", ErrUnfit, err)
	}
	data, version, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	if string(data) != "3" || version != second {
		return fmt.Errorf("%w: it returned %q (%s) right after %q (%s) was written", ErrUnfit, data, version, "3", second)
	}
	return nil
}

// Get implements Bucket.
func (b *S3) Get(ctx context.Context, key string, offset, length int64) ([]byte, Version, error) {
	if err := begin(ctx, "get", key); err != nil {
		return nil, "", err
	}
	if length == 0 {
		info, err := b.client.StatObject(ctx, b.bucket, b.prefix+key, minio.StatObjectOptions{})
		if err != nil {
			return nil, "", fail("get", key, translate(err))
		}
		return []byte{}, Version(info.ETag), nil
	}
	offset = max(offset, 0)
	var opts minio.GetObjectOptions
	if offset > 0 || length > 0 {
		end := int64(0) // to the end, in minio's notation
		if length > 0 {
			end = offset + length - 1
		}
		if offset == 0 && end == 0 {
			opts.Set("Range", "bytes=0-0")
		} else if err := opts.SetRange(offset, end); err != nil {
			return nil, "", fail("get", key, err)
		}
	}
	r, info, _, err := (minio.Core{Client: b.client}).GetObject(ctx, b.bucket, b.prefix+key, opts)
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return b.Get(ctx, key, 0, 0)
		}
		return nil, "", fail("get", key, translate(err))
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, "", fail("get", key, err)
	}
	return data, Version(info.ETag), nil
}

// Open implements Bucket.
func (b *S3) Open(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	if err := begin(ctx, "open", key); err != nil {
		return nil, 0, err
	}
	r, info, _, err := (minio.Core{Client: b.client}).GetObject(ctx, b.bucket, b.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, 0, fail("open", key, translate(err))
	}
	return r, info.Size, nil
}

// Put implements Bucket.
func (b *S3) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if err := begin(ctx, "put", key); err != nil {
		return err
	}
	exact := &exactReader{r: r, want: size}
	_, err := b.client.PutObject(ctx, b.bucket, b.prefix+key, exact, size, putOptions())
	if err == nil {
		err = exact.check()
	}
	if err != nil {
		return fail("put", key, translate(err))
	}
	return nil
}

// putOptions protects bodies by MD5, which every store checks, rather than by
// signed chunks, which some store as they come.
func putOptions() minio.PutObjectOptions {
	return minio.PutObjectOptions{PartSize: partSize, SendContentMd5: true, DisableContentSha256: true}
}

// PutIfAbsent implements Bucket.
func (b *S3) PutIfAbsent(ctx context.Context, key string, data []byte) (Version, error) {
	if err := begin(ctx, "put if absent", key); err != nil {
		return "", err
	}
	opts := putOptions()
	opts.SetMatchETagExcept("*")
	return b.putIf(ctx, "put if absent", key, data, opts, ErrExists)
}

// CompareAndSwap implements Bucket.
func (b *S3) CompareAndSwap(ctx context.Context, key string, old Version, data []byte) (Version, error) {
	if err := begin(ctx, "compare and swap", key); err != nil {
		return "", err
	}
	if old == "" || strings.ContainsAny(string(old), "\"*\r\n") {
		return "", fail("compare and swap", key, ErrConflict) // no ETag of ours
	}
	opts := putOptions()
	opts.SetMatchETag(string(old))
	return b.putIf(ctx, "compare and swap", key, data, opts, ErrConflict)
}

// putIf writes on a condition; refused is what its failure means.
func (b *S3) putIf(ctx context.Context, op, key string, data []byte, opts minio.PutObjectOptions, refused error) (Version, error) {
	id := nonce()
	opts.UserMetadata = map[string]string{nonceHeader: id}
	opts.DisableMultipart = true
	for attempt := 0; ; attempt++ {
		info, err := b.client.PutObject(ctx, b.bucket, b.prefix+key, bytes.NewReader(data), int64(len(data)), opts)
		if err == nil {
			return Version(info.ETag), nil
		}
		switch status := minio.ToErrorResponse(err).StatusCode; {
		case status == http.StatusConflict && attempt < 4:
			// Another conditional write of the same key was under way: AWS asks
			// to try again.
			continue
		case status != http.StatusPreconditionFailed:
			return "", fail(op, key, translate(err))
		}
		// Perhaps it was this very write that got there first.
		stat, err := b.client.StatObject(ctx, b.bucket, b.prefix+key, minio.StatObjectOptions{})
		switch {
		case err == nil && stat.UserMetadata[nonceHeader] == id:
			return Version(stat.ETag), nil
		case err == nil:
			return "", fail(op, key, refused)
		case errors.Is(translate(err), ErrNotFound) && refused == ErrConflict:
			return "", fail(op, key, ErrNotFound)
		case errors.Is(translate(err), ErrNotFound):
			return "", fail(op, key, refused)
		}
		return "", fail(op, key, translate(err))
	}
}

// List implements Bucket.
func (b *S3) List(ctx context.Context, prefix string, f func(Info) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for o := range b.client.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("list %q: %w", prefix, translate(o.Err))
		}
		info := Info{Key: strings.TrimPrefix(o.Key, b.prefix), Size: o.Size, Modified: o.LastModified.UnixMilli()}
		if err := f(info); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %q: %w", prefix, err)
	}
	return nil
}

// Delete implements Bucket.
func (b *S3) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, "delete", key); err != nil {
		return err
	}
	err := translate(b.client.RemoveObject(ctx, b.bucket, b.prefix+key, minio.RemoveObjectOptions{}))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fail("delete", key, err)
	}
	return nil
}

// URL implements Bucket. It holds no credentials.
func (b *S3) URL() string { return b.url.String() }

// Close implements Bucket.
func (b *S3) Close() error { return nil }

// translate maps a store's answer to this package's errors.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if r := minio.ToErrorResponse(err); r.Code == "NoSuchKey" || r.StatusCode == http.StatusNotFound && r.Code != "NoSuchBucket" {
		return fmt.Errorf("%w (%v)", ErrNotFound, err)
	}
	return err
}

// exactReader notices a source of another length than announced.
type exactReader struct {
	r         io.Reader
	want, got int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.got += int64(n)
	if err == io.EOF {
		if wrong := e.check(); wrong != nil {
			return n, wrong
		}
	}
	return n, err
}

func (e *exactReader) check() error { return checkSize(e.want, e.got) }
