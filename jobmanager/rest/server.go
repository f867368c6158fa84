package rest

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/jobmanager/dispatch"
)

// Bounds of the HTTP server.
const (
	// ReadHeaderTimeout and MaxHeaderBytes are for the http.Server around.
	ReadHeaderTimeout = 5 * time.Second
	MaxHeaderBytes    = 64 << 10
	maxBody           = 1 << 20
)

// Config of a Server. Dispatcher is required.
type Config struct {
	Dispatcher *dispatch.Dispatcher
	// Token, where set, is required as a bearer token.
	Token string
	// Hosts may be used in the Host header beside IP addresses and localhost.
	Hosts []string
	// MaxUpload bounds the body of an upload.
	MaxUpload int64
	// Settings are shown as the job manager's configuration.
	Settings map[string]string
	Version  string
	Commit   string
	// LogDir is the folder of the job manager's logs; empty for none.
	LogDir string
	// Extra handlers by pattern, behind the same checks.
	Extra map[string]http.Handler
	Log   *slog.Logger
}

// Server answers REST requests.
type Server struct {
	cfg      Config
	d        *dispatch.Dispatcher
	mux      *http.ServeMux
	cross    *http.CrossOriginProtection
	triggers *triggers
	started  time.Time
}

// New returns a server; Close ends it.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Server{
		cfg: cfg, d: cfg.Dispatcher, mux: http.NewServeMux(),
		cross: http.NewCrossOriginProtection(), started: cfg.Dispatcher.Now(),
	}
	s.triggers = newTriggers(s.d.Now)
	for _, r := range s.routes() {
		h := s.serve(r)
		s.mux.Handle(r.method+" "+r.path, h)
		s.mux.Handle(r.method+" /v1"+r.path, h)
	}
	for pattern, h := range cfg.Extra {
		s.mux.Handle(pattern, h)
	}
	return s
}

// Close ends the requests that are polled for and waits for them.
func (s *Server) Close() { s.triggers.close() }

// Handler checks every request and routes it.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.handle) }

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v)
		}
		s.cfg.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
		api.WriteError(w, api.Errorf(api.Internal, "%s %s: %v", r.Method, r.URL.Path, v))
	}()
	if err := s.admit(r); err != nil {
		api.WriteError(w, err)
		return
	}
	if _, pattern := s.mux.Handler(r); pattern == "" {
		api.WriteError(w, api.Errorf(api.RouteNotFound, "Not found: %s %s", r.Method, r.URL.Path))
		return
	}
	s.mux.ServeHTTP(w, r)
}

// admit says why a request is not even looked at.
func (s *Server) admit(r *http.Request) error {
	if !s.hostAllowed(r.Host) {
		return api.Errorf(api.HostRefused, "host %q is not a name of this job manager", r.Host)
	}
	if err := s.cross.Check(r); err != nil {
		return api.Errorf(api.CrossOriginRefused, "%s %s from origin %q: %w", r.Method, r.URL.Path, r.Header.Get("Origin"), err)
	}
	if s.cfg.Token != "" && !Authorized(r, s.cfg.Token) {
		return api.Errorf(api.Unauthorized, "%s %s: no valid token", r.Method, r.URL.Path)
	}
	return nil
}

// hostAllowed keeps a page of another site, whose name was rebound to this
// address, from reading answers.
func (s *Server) hostAllowed(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || net.ParseIP(host) != nil {
		return true
	}
	for _, h := range s.cfg.Hosts {
		if strings.EqualFold(h, host) {
			return true
		}
	}
	return false
}

// Authorized compares the request's bearer token in constant time.
func Authorized(r *http.Request, token string) bool {
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// obj is a JSON object of an answer. Figures that are not known are left out.
type obj = map[string]any

// accepted is an answer with status 202.
type accepted struct{ body any }

// text is an answer that is not JSON. A Reader that is a Closer is closed.
type text struct{ io.Reader }

// lines is an answer of JSON values, one a line, as they come.
type lines func(yield func(v any) error) error

// send writes lines. A failure after the first is the last line.
func (l lines) send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/x-ndjson; charset=utf-8")
	out := bufio.NewWriterSize(w, 32<<10)
	enc := json.NewEncoder(out)
	err := l(func(v any) error { return enc.Encode(v) })
	if err != nil {
		err = enc.Encode(obj{"error": api.From(err).Body()})
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
}

func (s *Server) serve(rt route) http.Handler {
	limit := int64(maxBody)
	if rt.upload {
		limit = s.cfg.MaxUpload + maxBody
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		body, err := rt.handle(r)
		if err != nil {
			api.WriteError(w, err)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		status := http.StatusOK
		switch b := body.(type) {
		case text:
			if c, ok := b.Reader.(io.Closer); ok {
				defer c.Close()
			}
			h.Set("Content-Type", "text/plain; charset=utf-8")
			if _, err := io.Copy(w, b); err != nil {
				panic(http.ErrAbortHandler) // the client must not take it for whole
			}
			return
		case lines:
			b.send(w)
			return
		case accepted:
			status, body = http.StatusAccepted, b.body
		}
		h.Set("Content-Type", "application/json; charset=utf-8")
		data, err := json.Marshal(body)
		if err != nil {
			api.WriteError(w, fmt.Errorf("encode answer of %s: %w", rt.path, err))
			return
		}
		w.WriteHeader(status)
		// A client that is gone needs no answer.
		_, _ = w.Write(append(data, '\n'))
	})
}

// decode reads a JSON body into v; an empty body leaves it as it is.
func decode(r *http.Request, v any) error {
	data, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return api.Errorf(api.RequestTooLarge, "%s %s: body is larger than %d bytes", r.Method, r.URL.Path, tooLarge.Limit)
	}
	if err != nil {
		return api.Errorf(api.BadRequest, "%s %s: read body: %w", r.Method, r.URL.Path, err)
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return api.Errorf(api.BadRequest, "%s %s: Request did not match expected format: %w", r.Method, r.URL.Path, err)
	}
	return nil
}

// hexID reads an id of 32 hex characters from the path.
func hexID(r *http.Request, name string) (string, error) {
	id := strings.ToLower(r.PathValue(name))
	if !isHexID(id) {
		return "", api.Errorf(api.MalformedID, "Cannot resolve path parameter (%s) from value %q", name, r.PathValue(name))
	}
	return id, nil
}

func isHexID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

func (s *Server) job(r *http.Request) (*dispatch.Job, error) {
	id, err := hexID(r, "jobid")
	if err != nil {
		return nil, err
	}
	return s.d.Job(id)
}
