package kinesis

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/stream"
)

// Config configures a Server. Service and Keys are needed.
type Config struct {
	Service stream.Service
	// Keys holds the secret of every access key that may sign requests.
	Keys map[string]string
	// TokenKey authenticates iterators and list tokens. Servers with the same
	// key take each other's; empty makes a random one.
	TokenKey []byte
	// RateLimits turns the throughput limits of Kinesis on.
	RateLimits bool
	Clock      clock.Clock
	Log        *slog.Logger
}

// maxBody bounds a request: PutRecords takes 10 MiB of data and keys, which
// base64 and member names make larger.
const maxBody = 16 << 20

const target = "Kinesis_20131202."

// Server answers the API's requests.
type Server struct {
	cfg     Config
	signer  verifier
	tokens  tokens
	limiter *limiter
}

// New makes a server.
func New(cfg Config) (*Server, error) {
	if cfg.Service == nil || len(cfg.Keys) == 0 {
		return nil, errors.New("kinesis: a server needs a service and at least one access key")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.TokenKey) == 0 {
		cfg.TokenKey = make([]byte, 32)
		rand.Read(cfg.TokenKey)
	}
	s := &Server{cfg: cfg, signer: verifier{keys: cfg.Keys}}
	s.tokens = newTokens(cfg.TokenKey)
	if cfg.RateLimits {
		s.limiter = newLimiter()
	}
	return s, nil
}

// call is one request on its way through an operation.
type call struct {
	*Server
	ctx    context.Context
	region string
	now    time.Time
}

// operation decodes a body and answers it.
type operation func(c *call, enc encoding, body []byte) (any, error)

// op makes an operation of a function over typed input and output.
func op[In, Out any](f func(c *call, in *In) (*Out, error)) operation {
	return func(c *call, enc encoding, body []byte) (any, error) {
		in := new(In)
		if len(body) > 0 {
			if err := enc.unmarshal(body, in); err != nil {
				return nil, faultf(serialization, "%v", err)
			}
		}
		out, err := f(c, in)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

var operations = map[string]operation{
	"CreateStream":                  op((*call).createStream),
	"DeleteStream":                  op((*call).deleteStream),
	"DescribeStream":                op((*call).describeStream),
	"DescribeStreamSummary":         op((*call).describeStreamSummary),
	"ListStreams":                   op((*call).listStreams),
	"ListShards":                    op((*call).listShards),
	"SplitShard":                    op((*call).splitShard),
	"MergeShards":                   op((*call).mergeShards),
	"UpdateShardCount":              op((*call).updateShardCount),
	"PutRecord":                     op((*call).putRecord),
	"PutRecords":                    op((*call).putRecords),
	"GetShardIterator":              op((*call).getShardIterator),
	"GetRecords":                    op((*call).getRecords),
	"IncreaseStreamRetentionPeriod": op((*call).increaseRetention),
	"DecreaseStreamRetentionPeriod": op((*call).decreaseRetention),
	"AddTagsToStream":               op((*call).addTags),
	"RemoveTagsFromStream":          op((*call).removeTags),
	"ListTagsForStream":             op((*call).listTags),
}

// ServeHTTP implements http.Handler. The path is not looked at, as by the
// service.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestID()
	w.Header().Set("x-amzn-RequestId", id)
	w.Header().Set("x-amz-id-2", hex.EncodeToString([]byte(id)))
	enc, known := encodingOf(r)
	if r.Method != http.MethodPost {
		s.fail(w, enc, &fault{status: http.StatusNotFound, name: unknownOperation, message: "operations are POST requests with an X-Amz-Target header"})
		return
	}
	body, f := readBody(w, r)
	if f != nil {
		s.fail(w, enc, f)
		return
	}
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
	if !ok || !known {
		s.fail(w, enc, &fault{status: http.StatusNotFound, name: unknownOperation, message: fmt.Sprintf("X-Amz-Target %q with Content-Type %q is not an operation of Kinesis", r.Header.Get("X-Amz-Target"), r.Header.Get("Content-Type"))})
		return
	}
	c := &call{Server: s, ctx: r.Context(), now: s.cfg.Clock.Now()}
	if c.region, f = s.signer.verify(r, body, c.now); f != nil {
		s.fail(w, enc, f)
		return
	}
	do, ok := operations[name]
	if !ok {
		s.fail(w, enc, faultf(unknownOperation, "operation %s is not served here", name))
		return
	}
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, f = inflate(body); f != nil {
			s.fail(w, enc, f)
			return
		}
	}
	if s.limiter != nil && !s.limiter.control(name, c.now) {
		s.fail(w, enc, faultf(limitExceeded, "Rate exceeded for %s", name))
		return
	}
	out, err := do(c, enc, body)
	if err != nil {
		s.fail(w, enc, toFault(err))
		return
	}
	s.answer(w, enc, http.StatusOK, out)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *fault) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &fault{status: http.StatusRequestEntityTooLarge, name: "RequestEntityTooLargeException", message: fmt.Sprintf("a request has at most %d bytes", maxBody)}
	case err != nil:
		return nil, faultf(serialization, "reading the request: %v", err)
	}
	return body, nil
}

// inflate undoes gzip, which some SDKs apply to large bodies.
func inflate(body []byte) ([]byte, *fault) {
	z, err := gzip.NewReader(strings.NewReader(string(body)))
	if err != nil {
		return nil, faultf(serialization, "gzip body: %v", err)
	}
	out, err := io.ReadAll(io.LimitReader(z, maxBody+1))
	switch {
	case err != nil:
		return nil, faultf(serialization, "gzip body: %v", err)
	case len(out) > maxBody:
		return nil, &fault{status: http.StatusRequestEntityTooLarge, name: "RequestEntityTooLargeException", message: fmt.Sprintf("a request has at most %d bytes, inflated too", maxBody)}
	}
	return out, nil
}

// empty is the answer of operations without one.
type empty struct{}

func (s *Server) answer(w http.ResponseWriter, enc encoding, status int, out any) {
	var body []byte
	if _, none := out.(*empty); !none {
		var err error
		if body, err = enc.marshal(out); err != nil {
			s.cfg.Log.Error("kinesis answer not encoded", "type", fmt.Sprintf("%T", out), "err", err)
			status, body = http.StatusInternalServerError, nil
		}
	}
	w.Header().Set("Content-Type", enc.contentType)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error means that the client has gone
}

func (s *Server) fail(w http.ResponseWriter, enc encoding, f *fault) {
	switch {
	case f.name == serviceUnavailable:
		s.cfg.Log.Warn("kinesis request not served", "name", f.name, "err", f.message)
	case f.status >= 500:
		s.cfg.Log.Error("kinesis request failed", "name", f.name, "err", f.message)
	}
	w.Header().Set("x-amzn-ErrorType", f.name)
	if f.name == serialization {
		s.answer(w, enc, f.status, struct {
			Type    string `json:"__type"`
			Message string `json:"Message"`
		}{f.name, f.message})
		return
	}
	s.answer(w, enc, f.status, struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{f.name, f.message})
}

// requestID is a random UUID.
func requestID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
