package rest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/jobmanager/dispatch"
)

const (
	// keepResult is how long the result of a request can be polled for.
	keepResult = 5 * time.Minute
	// maxTriggers bounds the requests that are under way or kept.
	maxTriggers = 10000
)

// triggers runs requests that are polled for.
type triggers struct {
	now     func() time.Time
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	mu      struct {
		sync.Mutex
		closed bool
		all    map[triggerKey]*trigger
	}
}

// triggerKey: ids are a client's choice, so they are kept apart by what they
// are for: a job and what is asked of it.
type triggerKey struct{ kind, job, id string }

type trigger struct {
	done   bool
	ended  time.Time
	result obj
	err    *api.Error
}

func newTriggers(now func() time.Time) *triggers {
	t := &triggers{now: now}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.mu.all = map[triggerKey]*trigger{}
	return t
}

func (t *triggers) close() {
	t.mu.Lock()
	t.mu.closed = true
	t.mu.Unlock()
	t.cancel()
	t.running.Wait()
}

// start runs f under an id, chosen here where it is empty. A known id starts
// nothing: its client asks again because an answer was lost.
func (t *triggers) start(kind, job, id string, f func(context.Context) (obj, error)) (any, error) {
	id = strings.ToLower(id)
	switch {
	case id == "":
		id = dispatch.NewID()
	case !isHexID(id):
		return nil, api.Errorf(api.MalformedID, "triggerId %q", id)
	}
	key := triggerKey{kind, job, id}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil, api.Errorf(api.ShuttingDown, "job manager is shutting down")
	}
	t.expire()
	if t.mu.all[key] == nil {
		if len(t.mu.all) >= maxTriggers {
			return nil, api.Errorf(api.TooManyRequests, "%d requests are under way or can still be polled for", maxTriggers)
		}
		tr := &trigger{}
		t.mu.all[key] = tr
		t.running.Go(func() {
			result, err := f(t.ctx)
			t.mu.Lock()
			defer t.mu.Unlock()
			tr.done, tr.ended, tr.result, tr.err = true, t.now(), result, api.From(err)
		})
	}
	return accepted{obj{"request-id": id}}, nil
}

// known says that a request with this id was started.
func (t *triggers) known(kind, job, id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.all[triggerKey{kind, job, strings.ToLower(id)}] != nil
}

func (t *triggers) expire() {
	now := t.now()
	for k, tr := range t.mu.all {
		if tr.done && now.Sub(tr.ended) > keepResult {
			delete(t.mu.all, k)
		}
	}
}

// poll answers with what became of a request. cause is the field that holds a
// failure: Flink spells it differently for checkpoints.
func (t *triggers) poll(kind, job string, r *http.Request, cause string) (any, error) {
	id, err := hexID(r, "triggerid")
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	tr := t.mu.all[triggerKey{kind, job, id}]
	switch {
	case tr == nil:
		return nil, api.Errorf(api.TriggerNotFound, "there is no request %s of this kind", id)
	case !tr.done:
		return obj{"status": obj{"id": "IN_PROGRESS"}, "operation": nil}, nil
	}
	operation := tr.result
	if tr.err != nil {
		operation = obj{cause: failure(tr.err)}
	} else if operation == nil {
		operation = obj{}
	}
	return obj{"status": obj{"id": "COMPLETED"}, "operation": operation}, nil
}

// failure is an error inside an answer: Flink's class and stack-trace beside
// the fields of every error here.
func failure(e *api.Error) obj {
	b := e.Body()
	f := obj{"class": string(b.Code), "stack-trace": e.Text(), "code": b.Code, "title": b.Title, "detail": b.Detail, "remedy": b.Remedy}
	if e.Stack != "" {
		f["stack-trace"] = e.Text() + "\n" + e.Stack
	}
	return f
}
