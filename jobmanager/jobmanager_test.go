package jobmanager

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const rest1 = "http://127.0.0.1:8081"

// start uploads and runs the fake job and waits until it is RUNNING.
func (c *cluster) start(h *host) (jar, job string) {
	c.t.Helper()
	up := c.upload(rest1, "delays", c.executable(), 200)
	name := up["filename"].(string)
	jar = name[strings.LastIndex(name, "/")+1:]
	job = c.call("POST", rest1+"/jars/"+jar+"/run", map[string]any{"programArgsList": []string{"--x"}, "unknown": 1}, 200)["jobid"].(string)
	c.state(job, "RUNNING")
	return jar, job
}

func (c *cluster) state(job, want string) {
	c.t.Helper()
	var got any
	c.await("job to be "+want, func() bool {
		got = c.call("GET", rest1+"/v1/jobs/"+job+"/status", nil, 200)["status"]
		return got == want
	})
}

// poll waits for the result of an asynchronous request.
func (c *cluster) poll(url string) map[string]any {
	c.t.Helper()
	var op map[string]any
	c.await(url, func() bool {
		a := c.call("GET", url, nil, 200)
		op, _ = a["operation"].(map[string]any)
		return a["status"].(map[string]any)["id"] == "COMPLETED"
	})
	return op
}

func TestJobFromUploadToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		jar, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })

		// A client that asks again under its own trigger id starts nothing new.
		body := map[string]any{"triggerId": strings.Repeat("ab", 16)}
		c.call("POST", rest1+"/jobs/"+job+"/checkpoints", body, 202)
		c.call("POST", rest1+"/jobs/"+job+"/checkpoints", body, 202)
		if op := c.poll(rest1 + "/jobs/" + job + "/checkpoints/" + strings.Repeat("ab", 16)); op["checkpointId"] == nil {
			t.Errorf("checkpoint operation = %v", op)
		}

		stop := c.call("POST", rest1+"/jobs/"+job+"/stop", map[string]any{"drain": true}, 202)
		op := c.poll(rest1 + "/jobs/" + job + "/savepoints/" + stop["request-id"].(string))
		path, _ := op["location"].(string)
		if path == "" || !h.saw("drain") {
			t.Errorf("stop with drain: operation %v, drained %v", op, h.saw("drain"))
		}
		c.state(job, "FINISHED")
		result := c.call("GET", rest1+"/jobs/"+job+"/execution-result", nil, 200)
		if s := result["job-execution-result"].(map[string]any)["application-status"]; s != "SUCCEEDED" {
			t.Errorf("execution result %v", s)
		}
		if o := c.call("GET", rest1+"/overview", nil, 200); o["slots-available"] != 2.0 || o["jobs-finished"] != 1.0 {
			t.Errorf("overview after the end: %v", o)
		}

		// It is refused to a job without the operators that its state is of.
		refused := c.call("POST", rest1+"/jars/"+jar+"/run", map[string]any{"savepointPath": path, "programArgsList": []string{"--other"}}, 422)
		if code := refused["code"]; code != "state-unmatched" && code != "savepoint-of-another-job" {
			t.Errorf("savepoint of another job: code %v", code)
		}
		// The savepoint starts another job, which keeps its lineage.
		again := c.call("POST", rest1+"/jars/"+jar+"/run", map[string]any{"savepointPath": path}, 200)["jobid"].(string)
		c.state(again, "RUNNING")
		c.call("POST", rest1+"/savepoint-disposal", map[string]any{"savepoint-path": "savepoints/nothing"}, 200)
		fold, err := journal.Read(t.Context(), c.bucket)
		if err != nil {
			t.Fatal(err)
		}
		if r := journal.Job(fold, again); r.GetSubmitted().GetLineage() != job || r.GetEpoch() <= journal.Job(fold, job).GetEpoch() {
			t.Errorf("restored job: lineage %s, epoch %d", r.GetSubmitted().GetLineage(), r.GetEpoch())
		}
		c.call("PATCH", rest1+"/jobs/"+again+"?mode=cancel", nil, 202)
		c.state(again, "CANCELED")
		c.call("PATCH", rest1+"/jobs/"+again, nil, 202)
		h.leave()
		l.kill(t)
	})
}

func TestWorkerCrashRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 1)
		_, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		h.crash()
		c.await("the second attempt", func() bool { return h.saw("start epoch 2") })
		c.state(job, "RUNNING")
		if !h.saw("deploy epoch 2 restore 1") && !h.saw("deploy epoch 2 restore 2") {
			t.Error("the second attempt did not restore a checkpoint")
		}
		var rec map[string]any
		c.await("new output to be visible", func() bool {
			r := c.call("GET", rest1+"/jobs/"+job+"/recovery", nil, 200)
			rec, _ = r["recoveries"].([]any)[0].(map[string]any)
			return rec["visible"] != nil
		})
		for _, f := range []string{"failed", "restarted-after-ms", "first-output-after-ms", "visible-after-ms", "cause"} {
			if rec[f] == nil {
				t.Errorf("recovery lacks %s: %v", f, rec)
			}
		}
		ex := c.call("GET", rest1+"/jobs/"+job+"/exceptions", nil, 200)["exceptionHistory"].(map[string]any)["entries"].([]any)
		if len(ex) != 1 || ex[0].(map[string]any)["exceptionName"] != "worker-exited" {
			t.Errorf("exceptions %v", ex)
		}
		h.leave()
		l.kill(t)
	})
}

// A worker that ends for want of memory leaves word of where its memory went.
func TestMemoryExceededNamesTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 1)
		_, job := c.start(h)
		h.exit(&pb.Error{Code: "memory-exceeded", Message: "worker w uses 70 MiB, more than the 64 MiB of its 1 slots"})
		c.await("the second attempt", func() bool { return h.saw("start epoch 2") })
		entries := c.call("GET", rest1+"/jobs/"+job+"/exceptions", nil, 200)["exceptionHistory"].(map[string]any)["entries"].([]any)
		e := entries[0].(map[string]any)
		detail, _ := e["detail"].(string)
		for _, text := range []string{"64 MiB of its 1 slots", "a heap of 1 MiB", "5 MiB of keyed state (7 entries) in delays, subtask 0"} {
			if !strings.Contains(detail, text) {
				t.Errorf("detail %q does not have %q", detail, text)
			}
		}
		if remedy, _ := e["remedy"].(string); e["code"] != "memory-exceeded" || !strings.Contains(remedy, "--slot-memory") {
			t.Errorf("exception %v", e)
		}
		h.leave()
		l.kill(t)
	})
}

func TestJobMovesToAnotherTaskManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h1 := c.join(l, "tm1", 1)
		_, job := c.start(h1)
		c.await("a committed checkpoint", func() bool { return h1.saw("commit 1") })
		h1.leave()
		c.await("the job to wait for slots", func() bool {
			return c.call("GET", rest1+"/jobs/"+job, nil, 200)["state"] == "RESTARTING"
		})
		h2 := c.join(l, "tm2", 1)
		c.await("the job on the other task manager", func() bool { return h2.saw("start epoch") })
		c.state(job, "RUNNING")
		h2.leave()
		l.kill(t)
	})
}

// A task manager that was taken for lost comes back with the worker of an
// attempt that is over.
func TestAWorkerOfAnEarlierAttemptIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h1 := c.join(l, "tm1", 1)
		_, job := c.start(h1)
		_, zombie := h1.worker()
		h1.leave()
		h2 := c.join(l, "tm2", 1)
		c.await("the job on the other task manager", func() bool { return h2.saw("start epoch") })
		h1 = c.join(l, "tm1", 1, &pb.WorkerStarted{JobId: job, WorkerId: zombie, DataAddress: "127.0.0.1:2", Pid: 4711})
		c.await("the end of the zombie", func() bool { return h1.saw("stop-worker " + zombie) })
		if _, id := h2.worker(); id == "" || h2.saw("stop-worker") {
			t.Error("the job's worker was stopped, not the zombie")
		}
		c.state(job, "RUNNING")
		h1.leave()
		h2.leave()
		l.kill(t)
	})
}

func TestRestartedJobManagerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 1)
		_, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		h.say(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_StreamCall{StreamCall: &pb.StreamCall{Id: 5,
			Command: &pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{Name: "flights", Shards: 2}}}}}})
		c.await("the stream to be there", func() bool { return h.saw("stream-reply 5 ") })
		l.kill(t)
		<-h.done

		l = c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h = c.join(l, "tm1", 1)
		c.await("the job to go on", func() bool { return h.saw("start epoch 2") })
		if h.saw("deploy epoch 2 restore 0") {
			t.Error("the job began from nothing")
		}
		c.state(job, "RUNNING")
		streams := c.call("GET", rest1+"/streams", nil, 200)["streams"].([]any)
		if len(streams) != 1 || streams[0].(map[string]any)["status"] != "ACTIVE" || !h.saw("catalog 1") {
			t.Errorf("streams after the restart: %v", streams)
		}
		h.leave()
		l.kill(t)
	})
}

// Of two job managers on one bucket the older one steps down at its next
// write, and completes no checkpoint after the younger leads.
func TestStaleLeaderStepsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		old := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(old, "tm1", 1)
		_, _ = c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		young := c.lead("127.0.0.1:8082", "127.0.0.1:9001")
		if err := <-old.err; !errors.Is(err, journal.ErrLeadershipLost) {
			t.Fatalf("the older job manager ended with %v", err)
		}
		<-h.done
		h2 := c.join(young, "tm1", 1)
		c.await("the job under the new leader", func() bool { return h2.saw("start epoch 2") })
		h2.leave()
		young.kill(t)
	})
}

func TestRefusedUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		elf := c.executable()
		for _, tt := range []struct {
			name string
			data []byte
			code string
		}{
			{"notes.txt", []byte("no executable"), "binary-not-executable"},
			{"empty", nil, "binary-not-executable"},
			{strings.Repeat("n", 300), elf, "name-too-long"},
			{"windows.exe", append([]byte("MZ"), make([]byte, 100)...), "binary-not-executable"},
		} {
			status := 422
			if tt.code == "name-too-long" {
				status = 400
			}
			if got := c.upload(rest1, tt.name, tt.data, status)["code"]; got != tt.code {
				t.Errorf("upload of %.20s: code %v, want %s", tt.name, got, tt.code)
			}
		}
		// Cut off half way: the form never ends.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, rest1+"/jars/upload",
			io.MultiReader(strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"a\"\r\n\r\n"), strings.NewReader(string(elf[:1<<16]))))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		if got := c.do(req, 400).(map[string]any)["code"]; got != string(api.UploadIncomplete) {
			t.Errorf("upload cut off: code %v", got)
		}
		err = c.bucket.List(t.Context(), "", func(i blob.Info) error {
			if strings.HasPrefix(i.Key, "jars/") || strings.HasPrefix(i.Key, "binaries/") {
				t.Errorf("object %s is left behind", i.Key)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// The same bytes under two names are one binary; it goes with the last.
		a, b := c.upload(rest1, "a", elf, 200), c.upload(rest1, "b", elf, 200)
		if a["sha256"] != b["sha256"] {
			t.Error("digests differ")
		}
		for _, up := range []map[string]any{a, b} {
			c.call("DELETE", rest1+"/"+up["filename"].(string), nil, 200)
		}
		if _, _, err := c.bucket.Get(t.Context(), "binaries/"+a["sha256"].(string), 0, 1); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("binary after its last upload was deleted: %v", err)
		}
		l.kill(t)
	})
}

func TestRefusedSubmissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		up := c.upload(rest1, "delays", c.executable(), 200)["filename"].(string)
		run := rest1 + "/" + up + "/run"
		if got := c.call("POST", run, nil, 503); got["code"] != "slots-unavailable" || !strings.HasPrefix(got["remedy"].(string), "Start a task manager") {
			t.Errorf("run without a task manager: %v", got)
		}
		h := c.join(l, "tm1", 1)
		for _, tt := range []struct {
			body   any
			status int
			code   string
		}{
			{map[string]any{"programArgsList": []string{"--broken"}}, 422, "build-failed"},
			{map[string]any{"parallelism": "many"}, 400, "bad-request"},
			{map[string]any{"jobId": "xyz"}, 400, "malformed-id"},
			{map[string]any{"savepointPath": "savepoints/none"}, 404, "savepoint-not-found"},
		} {
			if got := c.call("POST", run, tt.body, tt.status)["code"]; got != tt.code {
				t.Errorf("run with %v: code %v, want %s", tt.body, got, tt.code)
			}
		}
		wrong := c.call("POST", run, map[string]any{"programArgsList": []string{"--wrong"}}, 400)
		if wrong["code"] != "arguments-invalid" || wrong["remedy"] != "See `delays --help`." {
			t.Errorf("run with wrong arguments: %v", wrong)
		}
		// More parallelism than slots: the job waits, says for what, and gives up.
		job := c.call("POST", run, map[string]any{"parallelism": 3}, 200)["jobid"].(string)
		c.await("the job to say what it waits for", func() bool {
			w, _ := c.call("GET", rest1+"/jobs/"+job, nil, 200)["waiting-for"].(string)
			return strings.Contains(w, "3") && strings.Contains(w, "slots")
		})
		time.Sleep(DefaultSlotWait)
		c.state(job, "FAILED")
		cause := c.call("GET", rest1+"/jobs/"+job, nil, 200)["failure-cause"].(map[string]any)
		want := "job " + job + " was not given 3 slots, 1 free on 1 task managers: start another task manager, or lower the parallelism"
		if detail, _ := cause["detail"].(string); cause["code"] != "slots-unavailable" || !strings.Contains(detail, want) {
			t.Errorf("cause %v, want %q", cause, want)
		}
		h.leave()
		l.kill(t)
	})
}

func TestHardening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		for _, tt := range []struct {
			method, path, host string
			header             [2]string
			status             int
			code               string
		}{
			{"GET", "/overview", "evil.test:8081", [2]string{}, 421, "host-refused"},
			{"GET", "/overview", "jm.test:8081", [2]string{}, 200, ""},
			{"GET", "/v1/overview", "[::1]:8081", [2]string{}, 200, ""},
			{"POST", "/savepoint-disposal", "127.0.0.1:8081", [2]string{"Origin", "https://evil.test"}, 403, "cross-origin-refused"},
			{"DELETE", "/overview", "127.0.0.1:8081", [2]string{}, 404, "route-not-found"},
			{"GET", "/jobs/xyz", "127.0.0.1:8081", [2]string{}, 400, "malformed-id"},
			{"GET", "/jobs/" + strings.Repeat("A", 32), "127.0.0.1:8081", [2]string{}, 404, "job-not-found"},
			{"GET", "/jobmanager/logs/..%2f..%2fetc%2fpasswd", "127.0.0.1:8081", [2]string{}, 404, "log-not-found"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, rest1+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tt.host
			if tt.header[0] != "" {
				req.Header.Set(tt.header[0], tt.header[1])
			}
			body := c.do(req, tt.status).(map[string]any)
			if tt.code != "" && (body["code"] != tt.code || len(body["errors"].([]any)) != 1) {
				t.Errorf("%s %s: %v, want code %s", tt.method, tt.path, body, tt.code)
			}
		}
		l.kill(t)
	})
}

func TestConfigValidate(t *testing.T) {
	b := blob.NewMemory()
	for _, tt := range []struct {
		cfg  Config
		code api.Code
	}{
		{Config{Bucket: b}, ""},
		{Config{Bucket: b, REST: "[::1]:0"}, ""},
		{Config{}, api.ConfigInvalid},
		{Config{Bucket: b, REST: "8081"}, api.ConfigInvalid},
		{Config{Bucket: b, REST: "0.0.0.0:8081"}, api.InsecureBind},
		{Config{Bucket: b, REST: ":8081"}, api.InsecureBind},
		{Config{Bucket: b, Control: "10.0.0.1:1", Token: "t"}, api.InsecureBind},
		{Config{Bucket: b, REST: "0.0.0.0:8081", Insecure: true}, ""},
	} {
		if got := api.CodeOf(tt.cfg.Validate()); got != tt.code {
			t.Errorf("REST %q, control %q: code %q, want %q", tt.cfg.REST, tt.cfg.Control, got, tt.code)
		}
	}
}
