package jobmanager

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/blob/faulty"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// cleanup is a cluster with much to delete: a job with three savepoints, one in
// the folder of another, and with objects that died with their writers; and a
// second job.
type cleanup struct {
	*cluster
	memory             *blob.Memory
	faults             *faulty.Bucket
	log                bytes.Buffer
	l                  *leader
	h                  *host
	job, other         string
	kept, gone, within string          // savepoints
	strangers          map[string]bool // objects that nobody may delete
}

func newCleanup(t *testing.T) *cleanup {
	c := &cleanup{cluster: newCluster(t), memory: blob.NewMemory()}
	c.faults = faulty.New(c.memory, 1)
	c.bucket, c.objects = c.faults, c.memory
	c.configure = func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(&c.log, nil)) }
	c.l = c.lead("127.0.0.1:8081", "127.0.0.1:9000")
	c.h = c.join(c.l, "tm1", 2)
	jar := c.upload(rest1, "delays", elfHead(t), 200)["filename"].(string)
	run := func() string {
		job := c.call("POST", rest1+"/jars/"+jar[strings.LastIndex(jar, "/")+1:]+"/run", map[string]any{
			"configuration": map[string]string{"execution.checkpointing.interval": "1 min", "state.checkpoints.num-retained": "2"}}, 200)["jobid"].(string)
		c.await("a checkpoint of "+job, func() bool { return journal.Job(c.read(), job).GetLatest() != nil })
		return job
	}
	c.job = run()
	c.kept = c.savepointOf(c.job, "savepoints", map[string]any{})
	c.gone = c.savepointOf(c.job, "savepoints", map[string]any{})
	c.within = c.savepointOf(c.job, "savepoints", map[string]any{"target-directory": c.gone})
	c.other = run()
	c.await("a checkpoint after the savepoints", func() bool { return !journal.Job(c.read(), c.job).GetLatest().GetSavepoint() })
	prefix := checkpoint.JobPrefix(c.job)
	c.put(prefix+"state/1-900-0", prefix+"state/1-900-0-3", prefix+"checkpoints/1-901", c.gone+"/state-7")
	c.strangers = map[string]bool{prefix + "notes": true, prefix + "state/readme": true, "savepoints/notes": true}
	for key := range c.strangers {
		c.put(key)
	}
	return c
}

func (c *cleanup) put(keys ...string) {
	for _, key := range keys {
		if err := c.memory.Put(c.t.Context(), key, strings.NewReader("x"), 1); err != nil {
			c.t.Fatal(err)
		}
	}
}

// read is the journal, past all faults.
func (c *cleanup) read() *pb.JournalSnapshot {
	c.t.Helper()
	fold, err := journal.Read(c.t.Context(), c.memory)
	if err != nil {
		c.t.Fatal(err)
	}
	return fold
}

// live disposes of a savepoint, cancels the second job and has the first one's
// worker killed, so that its next attempt finds what is left of the last.
func (c *cleanup) live() {
	c.t.Helper()
	id := c.call("POST", rest1+"/savepoint-disposal", map[string]any{"savepoint-path": c.gone}, 200)["request-id"].(string)
	if cause := c.poll(rest1 + "/savepoint-disposal/" + id)["failure-cause"]; cause != nil {
		c.t.Errorf("the savepoint is not disposed of: %v", cause)
	}
	c.call("PATCH", rest1+"/jobs/"+c.other, nil, 202)
	c.state(c.other, "CANCELED")
	c.h.crashOf(c.job)
	c.await("the second attempt", func() bool { return c.h.saw("start epoch 2") })
}

// left says how the objects of jobs and savepoints differ from those that the
// journal names. None that it names may ever be missing, but of a job that has ended.
func (c *cleanup) left() string {
	c.t.Helper()
	synctest.Wait()
	var manifests []string
	fold := c.read()
	for _, s := range fold.GetSavepoints() {
		manifests = append(manifests, s.GetManifest())
	}
	for _, j := range fold.GetJobs() {
		for _, r := range j.GetRetained() {
			if j.GetEnded() == nil {
				manifests = append(manifests, r.GetManifest())
			}
		}
	}
	want, have := map[string]bool{}, map[string]bool{}
	for key := range c.strangers {
		want[key] = true
	}
	for _, prefix := range []string{"jobs/", "savepoints/"} {
		keys, err := blob.Keys(c.t.Context(), c.memory, prefix)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, key := range keys {
			have[key] = true
		}
	}
	for _, key := range manifests {
		m, err := manifest.Read(c.t.Context(), c.memory, key)
		if err != nil {
			c.t.Errorf("%s is retained: %v", key, err)
		}
		want[key] = true
		for _, object := range manifest.Objects(m) {
			if want[object] = true; !have[object] {
				c.t.Errorf("%s is gone, which %s names", object, key)
			}
		}
	}
	return cmp.Diff(want, have)
}

// end waits until nothing is left, and stops the cluster.
func (c *cleanup) end() {
	c.t.Helper()
	diff := c.left()
	for range 14 { // minutes: the next sweep comes within ten
		if diff == "" {
			break
		}
		time.Sleep(time.Minute)
		diff = c.left()
	}
	if diff != "" {
		c.t.Errorf("objects (-named, +there):\n%s", diff)
	}
	for _, s := range c.read().GetSavepoints() {
		if checkpoint.PathOf(s.GetManifest()) == c.gone {
			c.t.Error("the savepoint is listed still")
		}
	}
	c.h.leave()
	c.l.kill(c.t)
}

// While savepoints are disposed of, and what jobs leave is deleted and what dead
// attempts left is looked for, every operation on the bucket goes wrong once, in
// each of the ways that there are: what a retained checkpoint or savepoint names
// stays, and all else goes, at the next try at the latest.
func TestEveryOperationOfACleanUpGoesWrongOnce(t *testing.T) {
	for name, rule := range map[string]faulty.Rule{
		"fails":                      {Kind: faulty.Fail},
		"happens, the reply is lost": {Ops: faulty.Writes | faulty.List, Kind: faulty.LoseReply},
		"fails on this key for 10 s": {Kind: faulty.Fail, Sticky: true},
	} {
		t.Run(name, func(t *testing.T) {
			met := map[string]int{}
			for n := uint64(1); ; n++ {
				var hit faulty.Hit
				synctest.Test(t, func(t *testing.T) {
					c := newCleanup(t)
					rule := rule
					rule.Nth = n
					c.faults.Set(rule)
					mended := time.AfterFunc(10*time.Second, c.faults.Heal)
					c.live()
					c.end()
					mended.Stop()
					hit, _ = c.faults.First()
					if hit.Key != "" && !strings.Contains(c.log.String(), hit.Key) {
						t.Errorf("nobody was told")
					}
					if t.Failed() {
						t.Logf("operation %d, %s %s\n%s", n, hit.Op, hit.Key, c.log.String())
					}
				})
				if hit == (faulty.Hit{}) {
					t.Logf("%d operations: %v", n-1, met)
					break
				}
				folder, _, _ := strings.Cut(hit.Key, "/")
				met[hit.Op+" "+folder]++
				if t.Failed() {
					break
				}
			}
			for _, op := range []string{"delete savepoints", "list savepoints", "delete jobs", "list jobs"} {
				if met[op] == 0 {
					t.Errorf("%s never went wrong", op)
				}
			}
		})
	}
}

// elfHead is what is looked at of a binary for this platform.
func elfHead(t *testing.T) []byte {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 64)
	if _, err := io.ReadFull(f, head); err != nil {
		t.Fatal(err)
	}
	clear(head[32:48]) // there are no segments
	clear(head[56:])   // and no sections
	return head
}
