package rest

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/dispatch"
)

// uploadJar takes the first file of a multipart form.
func (s *Server) uploadJar(r *http.Request) (any, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, api.Errorf(api.BadRequest, "upload: %w", err).With("Send the binary as a file of a multipart form, such as curl -F jarfile=@job")
	}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, api.Errorf(api.BadRequest, "upload: the form has no file")
		}
		if err != nil {
			return nil, api.Errorf(api.UploadIncomplete, "upload: %w", err)
		}
		if part.FileName() == "" {
			continue
		}
		jar, err := s.d.Upload(r.Context(), part.FileName(), part)
		if err != nil {
			return nil, err
		}
		// Flink's clients take what follows the last slash for the id.
		return obj{"filename": "jars/" + jar.ID, "status": "success", "sha256": jar.SHA256, "size": jar.Size}, nil
	}
}

func (s *Server) jars(r *http.Request) (any, error) {
	jars, err := s.d.Jars(r.Context())
	if err != nil {
		return nil, err
	}
	files := []obj{}
	for _, j := range jars {
		files = append(files, obj{"id": j.ID, "name": j.Name, "uploaded": j.UploadedMs, "size": j.Size, "sha256": j.SHA256,
			"entry": []obj{{"name": j.Name, "description": nil}}})
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return obj{"address": scheme + r.Host, "files": files}, nil
}

func (s *Server) deleteJar(r *http.Request) (any, error) {
	return obj{}, s.d.DeleteJar(r.Context(), r.PathValue("jarid"))
}

// runRequest is the body of run and plan; each item may also come as a query
// parameter, which the body overrides.
type runRequest struct {
	Args                  []string `json:"programArgsList"`
	JobID                 string   `json:"jobId"`
	Parallelism           int      `json:"parallelism"`
	SavepointPath         string   `json:"savepointPath"`
	AllowNonRestoredState bool     `json:"allowNonRestoredState"`
	ClaimMode             string   `json:"claimMode"`
	// Configuration holds settings of the job. Flink's clients send whole
	// configurations of clusters too: of these what is no setting is left out, and
	// said so.
	Configuration map[string]string `json:"configuration"`
	FlinkConfig   map[string]string `json:"flinkConfiguration"`
}

func readRun(r *http.Request) (runRequest, error) {
	q := r.URL.Query()
	req := runRequest{Args: queryArgs(q), SavepointPath: q.Get("savepointPath")}
	switch allow := q.Get("allowNonRestoredState"); allow {
	case "", "false":
	case "true":
		req.AllowNonRestoredState = true
	default:
		return req, api.Errorf(api.BadRequest, "allowNonRestoredState=%q: want true or false", allow)
	}
	var err error
	if req.Parallelism, err = atoi("parallelism", q.Get("parallelism")); err != nil {
		return req, err
	}
	if err := decode(r, &req); err != nil {
		return req, err
	}
	req.JobID = strings.ToLower(req.JobID)
	switch {
	case req.JobID != "" && !isHexID(req.JobID):
		return req, api.Errorf(api.MalformedID, "jobId %q: want 32 hexadecimal characters", req.JobID)
	case req.Parallelism < 0:
		return req, api.Errorf(api.BadRequest, "parallelism %d is negative", req.Parallelism)
	}
	switch req.ClaimMode {
	case "", "CLAIM", "NO_CLAIM", "LEGACY":
	default:
		return req, api.Errorf(api.BadRequest, "claimMode %q: want CLAIM, NO_CLAIM or LEGACY", req.ClaimMode)
	}
	return req, nil
}

// settings are what the request sets, and what is no setting of ours.
func (r *runRequest) settings() (given map[string]string, ignored []string) {
	given = maps.Clone(r.Configuration)
	for key, v := range r.FlinkConfig {
		if !job.KnownSetting(key) {
			ignored = append(ignored, key)
			continue
		}
		if given == nil {
			given = map[string]string{}
		}
		if _, ours := given[key]; !ours {
			given[key] = v
		}
	}
	slices.Sort(ignored)
	return given, ignored
}

// queryArgs are the arguments of ?programArg=a,b, which may be repeated.
func queryArgs(q url.Values) []string {
	var args []string
	for _, v := range q["programArg"] {
		args = append(args, strings.Split(v, ",")...)
	}
	return args
}

func (s *Server) planJar(r *http.Request) (any, error) {
	req, err := readRun(r)
	if err != nil {
		return nil, err
	}
	g, err := s.d.Plan(r.Context(), r.PathValue("jarid"), req.Args, req.Parallelism)
	if err != nil {
		return nil, err
	}
	id := req.JobID
	if id == "" {
		id = dispatch.NewID()
	}
	return obj{"plan": plan(id, g), "warnings": append([]string{}, g.GetWarnings()...)}, nil
}

func (s *Server) runJar(r *http.Request) (any, error) {
	req, err := readRun(r)
	if err != nil {
		return nil, err
	}
	// The plan takes seconds; a client that leaves meanwhile takes its
	// submission with it, as long as it is not journalled.
	settings, ignored := req.settings()
	j, err := s.d.Submit(r.Context(), dispatch.Submission{
		Jar: r.PathValue("jarid"), Args: req.Args, JobID: req.JobID, Parallelism: req.Parallelism,
		Savepoint: req.SavepointPath, AllowUnmatched: req.AllowNonRestoredState, Settings: settings,
	})
	if err != nil {
		return nil, err
	}
	warnings := append([]string{}, j.Submitted.GetGraph().GetWarnings()...)
	if len(ignored) > 0 {
		warnings = append(warnings, "flinkConfiguration: no settings of a job here, without effect: "+strings.Join(ignored, ", "))
	}
	return obj{"jobid": j.ID, "warnings": warnings}, nil
}
