package rest

import (
	"context"
	"net/http"
	"strings"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/checkpoint/inspect"
	"github.com/millrace/millrace/jobmanager/dispatch"
)

// savepointPath is the savepoint that a query names.
func savepointPath(r *http.Request) (string, error) {
	path := r.URL.Query().Get("path")
	if path == "" {
		return "", api.Errorf(api.BadRequest, "path is missing: the path of a savepoint")
	}
	return path, nil
}

func (s *Server) savepointDetails(r *http.Request) (any, error) {
	path, err := savepointPath(r)
	if err != nil {
		return nil, err
	}
	return s.d.Inspect(r.Context(), path)
}

// savepointState answers with rows, one a line, and a last line with their
// number.
func (s *Server) savepointState(r *http.Request) (any, error) {
	path, err := savepointPath(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	if q.Get("operator") == "" {
		return nil, api.Errorf(api.BadRequest, "operator is missing: the name of an operator, with / and a state behind it or not")
	}
	limit, err := atoi("limit", q.Get("limit"))
	if err != nil || limit < 0 {
		return nil, api.Errorf(api.BadRequest, "limit=%q is no number of rows", q.Get("limit"))
	}
	var key *string
	if q.Has("key") {
		k := q.Get("key")
		key = &k
	}
	rows, err := s.d.Rows(r.Context(), path, q.Get("operator"), key)
	if err != nil {
		return nil, err
	}
	return lines(func(yield func(any) error) error {
		n, more := 0, false
		err := rows(func(row *inspect.Row) error {
			if more = limit > 0 && n == limit; more {
				return inspect.ErrEnough
			}
			n++
			return yield(row)
		})
		if err != nil {
			return err
		}
		return yield(obj{"rows": n, "more": more})
	}), nil
}

func (s *Server) verifySavepoint(r *http.Request) (any, error) {
	var body struct {
		Path      string `json:"savepoint-path"`
		TriggerID string `json:"triggerId"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body.Path == "" {
		return nil, api.Errorf(api.BadRequest, "savepoint-path is missing")
	}
	return s.triggers.start("verification", "", body.TriggerID, func(ctx context.Context) (obj, error) {
		rep, err := s.d.Verify(ctx, body.Path)
		if err != nil {
			return nil, err
		}
		return obj{"report": rep}, nil
	})
}

func (s *Server) verificationStatus(r *http.Request) (any, error) {
	return s.triggers.poll("verification", "", r, "failure-cause")
}

// checkJar answers 200 whatever the verdict: a version that does not fit is no
// failure of the check.
func (s *Server) checkJar(r *http.Request) (any, error) {
	var body struct {
		runRequest
		Against string `json:"againstJob"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	against := strings.ToLower(body.Against)
	if against != "" && !isHexID(against) {
		return nil, api.Errorf(api.MalformedID, "againstJob %q: want 32 hexadecimal characters", body.Against)
	}
	c, err := s.d.Check(r.Context(), dispatch.Submission{
		Jar: r.PathValue("jarid"), Args: body.Args, Parallelism: body.Parallelism,
		Savepoint: body.SavepointPath, AllowUnmatched: body.AllowNonRestoredState,
	}, against)
	if err != nil {
		return nil, err
	}
	o := obj{"compatible": c.Refused == nil, "name": c.Graph.GetName(), "against": c.Against,
		"operators": c.Report.Operators, "warnings": append([]string{}, c.Graph.GetWarnings()...)}
	if c.Refused != nil {
		o["refused"] = failure(c.Refused)
	}
	return o, nil
}
