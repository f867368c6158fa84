package jobmanager

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/blob/faulty"
	"github.com/millrace/millrace/jobmanager/journal"
)

// A leader whose bucket is away for a minute keeps its tasks running, completes
// and commits nothing, and goes on as the leader when the bucket is back.
func TestBucketOutage(t *testing.T) {
	for name, rules := range map[string][]faulty.Rule{
		"nothing is answered with success": {{Kind: faulty.Fail}},
		"only the journal is away":         {{Kind: faulty.Fail, Prefix: "journal/"}},
		"writes happen, replies are lost":  {{Kind: faulty.LoseReply, Ops: faulty.Writes}, {Kind: faulty.Fail}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				bucket := faulty.New(blob.NewMemory(), 1)
				c.bucket = bucket
				l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
				h := c.join(l, "tm1", 1)
				_, job := c.start(h)
				c.await("a committed checkpoint", func() bool { return h.saw("commit 2") })

				counts := func() map[string]any {
					return c.call("GET", rest1+"/jobs/"+job+"/checkpoints", nil, 200)["counts"].(map[string]any)
				}
				bucket.Set(rules...)
				time.Sleep(time.Second) // for what is under way
				before, commits := counts(), h.count("commit ")
				time.Sleep(59 * time.Second)
				after := counts()
				if after["completed"] != before["completed"] {
					t.Errorf("checkpoints completed during the outage: %v, then %v", before, after)
				}
				if n := h.count("commit "); n != commits {
					t.Errorf("sinks were asked for %d commits during the outage", n-commits)
				}
				if s := c.call("GET", rest1+"/jobs/"+job+"/status", nil, 200)["status"]; s != "RUNNING" {
					t.Errorf("the job is %v during the outage", s)
				}
				bucket.Set()
				began := time.Now()
				c.await("a checkpoint after the outage", func() bool { return counts()["completed"].(float64) > after["completed"].(float64) })
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("the first checkpoint after the outage took %v", took)
				}
				if h.saw("start epoch 2") || h.saw("end") {
					t.Error("the job restarted")
				}
				ex := c.call("GET", rest1+"/jobs/"+job+"/exceptions", nil, 200)["exceptionHistory"].(map[string]any)["entries"].([]any)
				if len(ex) != 0 {
					t.Errorf("exceptions %v", ex)
				}
				h.leave()
				l.kill(t)
			})
		})
	}
}

// A job that is to fail with its checkpoints restarts after the fourth in a row.
func TestTolerableCheckpointFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		bucket := faulty.New(blob.NewMemory(), 1)
		c.bucket = bucket
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 1)
		up := c.upload(rest1, "delays", c.executable(), 200)["filename"].(string)
		job := c.call("POST", rest1+"/jars/"+up[strings.LastIndex(up, "/")+1:]+"/run", map[string]any{
			"configuration": map[string]string{"execution.checkpointing.tolerable-failed-checkpoints": "3"}}, 200)["jobid"].(string)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		bucket.Set(faulty.Rule{Kind: faulty.Fail, Prefix: "jobs/"})
		first := h.count("trigger ")
		c.await("the second attempt", func() bool { return h.saw("start epoch 2") })
		bucket.Set()
		if n := h.count("trigger ") - first; n < 4 || n > 5 {
			t.Errorf("%d checkpoints were tried, want 4", n)
		}
		done := h.count("commit ")
		c.await("checkpoints again", func() bool { return h.count("commit ") > done })
		ex := c.call("GET", rest1+"/jobs/"+job+"/exceptions", nil, 200)["exceptionHistory"].(map[string]any)["entries"].([]any)
		if len(ex) != 1 {
			t.Fatalf("exceptions %v", ex)
		}
		e := ex[0].(map[string]any)
		if detail, _ := e["detail"].(string); e["code"] != "checkpoint-failures-exceeded" || !strings.Contains(detail, "4 checkpoints failed one after the other, at most 3 may") || !strings.Contains(detail, "injected fault") {
			t.Errorf("exception %v", e)
		}
		h.leave()
		l.kill(t)
	})
}

// What a bucket does not delete for a while goes later: of a job that goes on, and
// of one that has ended, for which nobody would look again.
func TestDeletionsAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		memory := blob.NewMemory()
		bucket := faulty.New(memory, 1)
		c.bucket = bucket
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		jar, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 2") })
		objects := func(job string) (n int) {
			_ = memory.List(t.Context(), "jobs/"+job+"/", func(blob.Info) error { n++; return nil })
			return n
		}
		other := c.call("POST", rest1+"/jars/"+jar+"/run", nil, 200)["jobid"].(string)
		c.state(other, "RUNNING")
		c.await("checkpoints of the other job", func() bool { return objects(other) > 0 })

		bucket.Set(faulty.Rule{Kind: faulty.Fail, Ops: faulty.Delete | faulty.List, Prefix: "jobs/"})
		c.call("PATCH", rest1+"/jobs/"+other, nil, 202)
		c.state(other, "CANCELED")
		time.Sleep(30 * time.Second)
		if n := objects(job); n < 20 {
			t.Fatalf("%d objects after 30 s without deletions: the test shows nothing", n)
		}
		if objects(other) == 0 {
			t.Fatal("the other job's objects are gone")
		}
		_, before := bucket.Counts()
		time.Sleep(30 * time.Second)
		if _, after := bucket.Counts(); after-before > 200 {
			t.Errorf("%d deletions were tried in 30 s", after-before)
		}
		bucket.Heal()
		time.Sleep(2 * time.Minute)
		if n := objects(job); n > 3 {
			t.Errorf("%d objects of the job are left", n)
		}
		if n := objects(other); n > 0 {
			t.Errorf("%d objects of the job that has ended are left", n)
		}
		h.leave()
		l.kill(t)
	})
}

// What a bucket did not delete under one leader goes under the next: the objects of
// a job that has ended, and those of a savepoint that was disposed of. Then nobody
// looks there again.
func TestDeletionsOutliveTheirLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		memory := blob.NewMemory()
		bucket := faulty.New(memory, 1)
		c.bucket = bucket
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 1)
		_, job := c.start(h)
		path := c.savepointOf(job, "savepoints", map[string]any{})
		c.await("a checkpoint after the savepoint", func() bool { return !journal.Job(c.fold(), job).GetLatest().GetSavepoint() })
		left := func() (n int) {
			for _, prefix := range []string{"jobs/" + job + "/", path + "/"} {
				_ = memory.List(t.Context(), prefix, func(blob.Info) error { n++; return nil })
			}
			return n
		}

		bucket.Set(faulty.Rule{Kind: faulty.Fail, Ops: faulty.Delete})
		c.call("PATCH", rest1+"/jobs/"+job, nil, 202)
		c.state(job, "CANCELED")
		id := c.call("POST", rest1+"/savepoint-disposal", map[string]any{"savepoint-path": path}, 200)["request-id"].(string)
		if op := c.poll(rest1 + "/savepoint-disposal/" + id); op["failure-cause"] != nil {
			t.Fatalf("disposal: %v", op)
		}
		time.Sleep(10 * time.Second)
		if n := left(); n < 2 {
			t.Fatalf("%d objects are left: the test shows nothing", n)
		}
		l.kill(t)
		<-h.done
		bucket.Heal()
		if got := c.fold().GetNeedless(); len(got) != 2 {
			t.Errorf("the journal remembers %v", got)
		}

		l = c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		c.await("what was left to go", func() bool { return left() == 0 })
		c.await("the journal to forget it", func() bool { return len(c.fold().GetNeedless()) == 0 })
		l.kill(t)
	})
}
