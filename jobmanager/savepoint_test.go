package jobmanager

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func (c *cluster) fold() *pb.JournalSnapshot {
	c.t.Helper()
	fold, err := journal.Read(c.t.Context(), c.bucket)
	if err != nil {
		c.t.Fatal(err)
	}
	return fold
}

// savepointOf asks for a savepoint at a URL of the job and returns its path.
func (c *cluster) savepointOf(job, verb string, body map[string]any) string {
	c.t.Helper()
	id := c.call("POST", rest1+"/jobs/"+job+"/"+verb, body, 202)["request-id"].(string)
	path, _ := c.poll(rest1 + "/jobs/" + job + "/savepoints/" + id)["location"].(string)
	if path == "" {
		c.t.Fatalf("%s of job %s gave no savepoint", verb, job)
	}
	return path
}

// A job that starts from a savepoint goes on with its lineage if no other job
// that has not ended has that; else it is a fork.
func TestForks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 4)
		jar, first := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		path := c.savepointOf(first, "savepoints", map[string]any{})
		from := func() string {
			job := c.call("POST", rest1+"/jars/"+jar+"/run", map[string]any{"savepointPath": path}, 200)["jobid"].(string)
			c.state(job, "RUNNING")
			return job
		}
		lineage := func(job string) string { return journal.Job(c.fold(), job).GetSubmitted().GetLineage() }
		fork := from()
		if got := lineage(fork); got != fork {
			t.Errorf("a job beside the owner of its savepoint has lineage %s, want its own", got)
		}
		c.savepointOf(first, "stop", map[string]any{})
		c.state(first, "FINISHED")
		heir, second := from(), from()
		if got := lineage(heir); got != first {
			t.Errorf("a job that goes on after the owner has ended has lineage %s, want %s", got, first)
		}
		if got := lineage(second); got != second {
			t.Errorf("a second one has lineage %s, want its own", got)
		}
		if a, b := journal.Job(c.fold(), first).GetEpoch(), journal.Job(c.fold(), heir).GetEpoch(); b <= a {
			t.Errorf("epoch %d goes on after %d", b, a)
		}
		h.leave()
		l.kill(t)
	})
}

func TestWhatCannotBeStartedFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		jar, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		checkpoint := journal.Job(c.fold(), job).GetLatest().GetManifest()
		if got := c.call("POST", rest1+"/jars/"+jar+"/run", map[string]any{"savepointPath": checkpoint}, 409); got["code"] != "checkpoint-in-use" {
			t.Errorf("start from a checkpoint of a job that runs: %v", got)
		}

		for _, dir := range []string{"jobs/" + job, "a/../b", "journal", "/tmp/savepoints"} {
			for verb, field := range map[string]string{"savepoints": "target-directory", "stop": "targetDirectory"} {
				got := c.call("POST", rest1+"/jobs/"+job+"/"+verb, map[string]any{field: dir}, 400)
				if remedy, _ := got["remedy"].(string); got["code"] != "bad-request" || !strings.Contains(remedy, "folder") {
					t.Errorf("%s to %q: %v", verb, dir, got)
				}
			}
		}
		url := c.bucket.URL()
		if path := c.savepointOf(job, "savepoints", map[string]any{"target-directory": strings.TrimSuffix(url, "/") + "/back//up/"}); !strings.HasPrefix(path, "back/up/"+job) {
			t.Errorf("savepoint at %s", path)
		}
		h.leave()
		l.kill(t)
	})
}

// A check says what a start would, of a savepoint and of the job that runs, and
// neither starts nor stops anything.
func TestCheckAndStartAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		jar, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		path := c.savepointOf(job, "savepoints", map[string]any{})
		for _, x := range []struct {
			args    []string
			verdict string // of the operator delays
			code    string
			says    string
		}{
			{nil, "unchanged", "", ""},
			{[]string{"--state", "{Delay int64,Late(Delayed) bool}"}, "migrated", "", ""},
			{[]string{"--state", "{Delay int16}"}, "incompatible", "state-incompatible", `state "last" of operator "delays": value.Delay was int32 and is int16`},
			{[]string{"--state", "{Delay string}"}, "incompatible", "state-incompatible", "value.Delay was int32 and is string"},
			{[]string{"--other"}, "removed", "state-unmatched", `operator "delays"`},
		} {
			for what, against := range map[string]string{"savepointPath": path, "againstJob": job} {
				got := c.call("POST", rest1+"/jars/"+jar+"/check", map[string]any{what: against, "programArgsList": x.args}, 200)
				verdict := ""
				for _, o := range got["operators"].([]any) {
					if o := o.(map[string]any); o["uid"] == "delays" {
						verdict = o["verdict"].(string)
					}
				}
				refused, _ := got["refused"].(map[string]any)
				if verdict != x.verdict || got["compatible"] != (x.code == "") || x.code != "" && (refused["code"] != x.code || !strings.Contains(refused["detail"].(string), x.says)) {
					t.Errorf("check %v against %s: %v", x.args, what, got)
				}
			}
			run := map[string]any{"savepointPath": path, "programArgsList": x.args}
			if x.code == "" {
				second := c.call("POST", rest1+"/jars/"+jar+"/run", run, 200)["jobid"].(string)
				c.state(second, "RUNNING")
				c.call("PATCH", rest1+"/jobs/"+second, nil, 202)
				c.state(second, "CANCELED")
				continue
			}
			if got := c.call("POST", rest1+"/jars/"+jar+"/run", run, 422); got["code"] != x.code || !strings.Contains(got["detail"].(string), x.says) {
				t.Errorf("run %v: %v", x.args, got)
			}
		}
		if got := c.call("POST", rest1+"/jars/"+jar+"/check", map[string]any{"againstJob": job, "savepointPath": path}, 400); got["code"] != "bad-request" {
			t.Errorf("check against two: %v", got)
		}
		if got := c.call("GET", rest1+"/savepoints/state?operator=delay&path="+path, nil, 404); got["code"] != "state-not-found" {
			t.Errorf("state of no operator: %v", got)
		}
		c.state(job, "RUNNING")
		h.leave()
		l.kill(t)
	})
}

// A savepoint that is damaged can be got rid of, with all its objects.
func TestDisposalOfADamagedSavepoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 1)
		_, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		path := c.savepointOf(job, "savepoints", map[string]any{})
		c.await("a checkpoint after the savepoint", func() bool { return !journal.Job(c.fold(), job).GetLatest().GetSavepoint() })
		for _, key := range []string{path + "/manifest", path + "/state-7"} {
			if err := c.bucket.Put(t.Context(), key, bytes.NewReader([]byte("x")), 1); err != nil {
				t.Fatal(err)
			}
		}
		dispose := func(path string) map[string]any {
			id := c.call("POST", rest1+"/savepoint-disposal", map[string]any{"savepoint-path": path}, 200)["request-id"].(string)
			return c.poll(rest1 + "/savepoint-disposal/" + id)
		}
		if op := dispose("jobs/" + job); op["failure-cause"] == nil {
			t.Errorf("what is no savepoint was disposed of: %v", op)
		}
		if op := dispose(path); op["failure-cause"] != nil {
			t.Errorf("disposal: %v", op)
		}
		c.await("its objects to be gone", func() bool {
			n := 0
			_ = c.bucket.List(t.Context(), path, func(blob.Info) error { n++; return nil })
			return n == 0
		})
		if n := len(c.fold().GetSavepoints()); n != 0 {
			t.Errorf("%d savepoints are still known", n)
		}
		h.leave()
		l.kill(t)
	})
}

// What failed under an earlier job manager is told by the next.
func TestExceptionsOutliveTheJobManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 1)
		_, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		h.crash()
		c.await("the second attempt", func() bool { return h.saw("start epoch 2") })
		c.state(job, "RUNNING")
		told := func() (exceptions, recoveries []any) {
			exceptions = c.call("GET", rest1+"/jobs/"+job+"/exceptions", nil, 200)["exceptionHistory"].(map[string]any)["entries"].([]any)
			return exceptions, c.call("GET", rest1+"/jobs/"+job+"/recovery", nil, 200)["recoveries"].([]any)
		}
		before, _ := told()
		l.kill(t)
		<-h.done

		l = c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h = c.join(l, "tm1", 1)
		c.await("the job to go on", func() bool { return h.saw("start epoch 3") })
		exceptions, recoveries := told()
		if len(exceptions) != 1 || len(recoveries) != 1 {
			t.Fatalf("after the restart: exceptions %v, recoveries %v", exceptions, recoveries)
		}
		was, is := before[0].(map[string]any), exceptions[0].(map[string]any)
		for _, f := range []string{"exceptionName", "timestamp", "epoch", "detail", "taskName"} {
			if was[f] != is[f] {
				t.Errorf("%s of the exception is %v, it was %v", f, is[f], was[f])
			}
		}
		if r := recoveries[0].(map[string]any); r["failed"] != was["timestamp"] || r["code"] != "worker-exited" || r["restarted"] != nil {
			t.Errorf("recovery after the restart: %v", r)
		}
		h.leave()
		l.kill(t)
	})
}
