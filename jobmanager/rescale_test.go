package jobmanager

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/jobmanager/journal"
)

// rescale asks for another parallelism and returns what came of it.
func (c *cluster) rescale(job string, body map[string]any) map[string]any {
	c.t.Helper()
	id := c.call("PATCH", rest1+"/jobs/"+job+"/rescaling", body, 202)["request-id"].(string)
	return c.poll(rest1 + "/jobs/" + job + "/rescaling/" + id)
}

// upper are the upper bounds of a job, by vertex id.
func (c *cluster) upper(job string) map[string]any {
	c.t.Helper()
	got := map[string]any{}
	for id, b := range c.call("GET", rest1+"/jobs/"+job+"/resource-requirements", nil, 200) {
		got[id] = b.(map[string]any)["parallelism"].(map[string]any)["upperBound"]
	}
	return got
}

func both(n float64) map[string]any { return map[string]any{sourceVertex: n, sinkVertex: n} }

// A job goes from one slot to three on two task managers and back, without a
// restart and with the worker that it had; another leader goes on with the
// parallelism in force.
func TestRescaleUpAndDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h1, h2 := c.join(l, "tm1", 2), c.join(l, "tm2", 2)
		jar, job := c.start(h1)
		stay, leave := h1, h2
		if _, id := h1.worker(); id == "" {
			stay, leave = h2, h1
		}
		_, before := stay.worker()

		if op := c.rescale(job, map[string]any{"parallelism": 3}); op["failure-cause"] != nil {
			t.Fatalf("rescale to 3: %v", op)
		}
		if diff := cmp.Diff(both(3), c.upper(job)); diff != "" {
			t.Errorf("parallelism (-want +got):\n%s", diff)
		}
		if _, id := stay.worker(); id != before {
			t.Errorf("worker %s took the place of %s", id, before)
		}
		if _, id := leave.worker(); id == "" {
			t.Error("no worker on the second task manager")
		}
		d := c.call("GET", rest1+"/jobs/"+job, nil, 200)
		if d["restarts"] != 0.0 || d["rescales"] != 1.0 || d["state"] != "RUNNING" {
			t.Errorf("job: %v", d)
		}
		past := c.call("GET", rest1+"/jobs/"+job+"/recovery", nil, 200)["rescales"].([]any)
		if len(past) != 1 || past[0].(map[string]any)["epoch"] != 2.0 {
			t.Errorf("rescales: %v", past)
		}
		exceptions := c.call("GET", rest1+"/jobs/"+job+"/exceptions", nil, 200)["exceptionHistory"].(map[string]any)["entries"].([]any)
		if len(exceptions) != 0 {
			t.Errorf("exceptions: %v", exceptions)
		}
		if !stay.saw("deploy epoch 2 restore") || stay.count("end *pb.WorkerCommand_Cancel") != 0 {
			t.Errorf("commands: %v", stay.mu.seen)
		}
		if free := c.call("GET", rest1+"/overview", nil, 200)["slots-available"]; free != 1.0 {
			t.Errorf("%v slots are free", free)
		}

		// A savepoint knows the parallelism that it was taken with; a job that
		// starts from it has its own, if it is given one.
		path := c.savepointOf(job, "savepoints", map[string]any{})
		m, err := manifest.Read(t.Context(), c.bucket, path+"/manifest")
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range m.GetGraph().GetVertices() {
			if v.GetParallelism() != 3 {
				t.Errorf("savepoint of %s with parallelism %d, want 3", v.GetName(), v.GetParallelism())
			}
		}
		fork := c.call("POST", rest1+"/jars/"+jar+"/run", map[string]any{"savepointPath": path, "parallelism": 1}, 200)["jobid"].(string)
		c.state(fork, "RUNNING")
		if diff := cmp.Diff(both(1), c.upper(fork)); diff != "" {
			t.Errorf("parallelism of a job from the savepoint (-want +got):\n%s", diff)
		}
		c.call("PATCH", rest1+"/jobs/"+fork, nil, 202)
		c.state(fork, "CANCELED")

		// Flink's way down: the upper bound counts.
		body := map[string]any{}
		for id := range both(1) {
			body[id] = map[string]any{"parallelism": map[string]any{"lowerBound": 1, "upperBound": 1}}
		}
		requirements := rest1 + "/jobs/" + job + "/resource-requirements"
		crossed := map[string]any{sinkVertex: map[string]any{"parallelism": map[string]any{"lowerBound": 3, "upperBound": 2}}}
		if got := c.call("PUT", requirements, crossed, 400); got["code"] != "parallelism-invalid" {
			t.Errorf("a lower bound above the upper one: %v", got)
		}
		c.call("PUT", requirements, body, 200)
		c.await("one subtask each", func() bool { return cmp.Equal(both(1), c.upper(job)) })
		c.await("a worker less", func() bool { _, a := h1.worker(); _, b := h2.worker(); return (a == "") != (b == "") })
		c.await("free slots", func() bool { return c.call("GET", rest1+"/overview", nil, 200)["slots-available"] == 3.0 })

		if op := c.rescale(job, map[string]any{"vertices": map[string]any{"delays": 2}}); op["failure-cause"] != nil {
			t.Fatalf("rescale of delays: %v", op)
		}
		want := map[string]any{sourceVertex: 1.0, sinkVertex: 2.0}
		if r := journal.Job(c.fold(), job); r.GetRescales() != 3 || r.GetRestarts() != 0 || fmt.Sprint(r.GetParallelism()) != fmt.Sprintf("map[%s:2]", sinkVertex) {
			t.Errorf("journal: %v", r)
		}
		l.kill(t)
		<-h1.done
		<-h2.done
		l = c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h1 = c.join(l, "tm1", 2)
		c.state(job, "RUNNING")
		if diff := cmp.Diff(want, c.upper(job)); diff != "" {
			t.Errorf("parallelism under another leader (-want +got):\n%s", diff)
		}
		h1.leave()
		l.kill(t)
	})
}

// A job that starts from a savepoint goes on at the parallelism that was in force,
// over several versions and job managers, unless its user asks for another.
func TestUpgradeKeepsTheParallelism(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 4)
		jar, job := c.start(h)
		if op := c.rescale(job, map[string]any{"vertices": map[string]any{"delays": 3}}); op["failure-cause"] != nil {
			t.Fatalf("rescale: %v", op)
		}
		upgrade := func(with map[string]any) {
			t.Helper()
			with["savepointPath"] = c.savepointOf(job, "stop", map[string]any{})
			c.state(job, "FINISHED")
			job = c.call("POST", rest1+"/jars/"+jar+"/run", with, 200)["jobid"].(string)
			c.state(job, "RUNNING")
		}
		inForce := func(when string, want map[string]any) {
			t.Helper()
			if diff := cmp.Diff(want, c.upper(job)); diff != "" {
				t.Errorf("parallelism %s (-want +got):\n%s", when, diff)
			}
		}
		mixed := map[string]any{sourceVertex: 1.0, sinkVertex: 3.0}
		upgrade(map[string]any{})
		inForce("of the second version", mixed)
		if !h.saw("deploy epoch 3 restore") || h.count("deploy epoch 3") != 1 {
			t.Errorf("commands: %v", h.mu.seen)
		}
		upgrade(map[string]any{})
		inForce("of the third version", mixed)

		// Another job manager starts what is in the journal.
		l.kill(t)
		<-h.done
		l = c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h = c.join(l, "tm1", 4)
		c.state(job, "RUNNING")
		inForce("under another leader", mixed)

		upgrade(map[string]any{"parallelism": 2})
		inForce("as asked for", both(2))
		h.leave()
		l.kill(t)
	})
}

// What cannot be is refused, and the job runs on undisturbed.
func TestRescaleRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		_, job := c.start(h)
		url := rest1 + "/jobs/" + job + "/rescaling"
		for _, x := range []struct {
			body   map[string]any
			status int
			code   string
			names  string
		}{
			{map[string]any{"parallelism": 129}, 400, "parallelism-too-large", "128 key groups"},
			{map[string]any{"parallelism": -1}, 400, "parallelism-invalid", "-1"},
			{map[string]any{}, 400, "parallelism-invalid", "no parallelism"},
			{map[string]any{"vertices": map[string]any{"delay": 2}}, 404, "vertex-not-found", `"delays"`},
			{map[string]any{"vertices": map[string]any{"delays": 0}}, 400, "parallelism-invalid", `"delays"`},
			{map[string]any{"vertices": map[string]any{"delays": 1, sinkVertex: 2}}, 400, "parallelism-invalid", "one vertex"},
		} {
			got := c.call("PATCH", url, x.body, x.status)
			if got["code"] != x.code || !strings.Contains(fmt.Sprint(got["detail"]), x.names) {
				t.Errorf("%v: %v", x.body, got)
			}
		}

		id := c.call("PATCH", url, map[string]any{"parallelism": 4}, 202)["request-id"].(string)
		var rescaling map[string]any
		c.await("the wait for slots", func() bool {
			rescaling, _ = c.call("GET", rest1+"/jobs/"+job, nil, 200)["rescaling"].(map[string]any)
			return rescaling["step"] == "slots" && rescaling["slots-free"] != nil
		})
		if rescaling["slots-needed"] != 4.0 || rescaling["slots-held"] != 1.0 || rescaling["slots-free"] != 1.0 {
			t.Errorf("rescaling: %v", rescaling)
		}
		if got := c.call("PATCH", url, map[string]any{"parallelism": 2}, 409); got["code"] != "rescale-in-progress" {
			t.Errorf("a second one: %v", got)
		}
		time.Sleep(20 * time.Second) // of the 30 that it waits
		op := c.poll(url + "/" + id)
		cause, _ := op["failure-cause"].(map[string]any)
		if cause["code"] != "slots-unavailable" || !strings.Contains(fmt.Sprint(cause["detail"]), "was not given 4 slots, 3 more than it has, 1 free on 1 task managers: it goes on as it was; a parallelism of 2 is possible now") {
			t.Errorf("without slots: %v", op)
		}
		if h.count("deploy") != 1 || h.count("start-worker") != 1 || h.saw("stop-worker") {
			t.Errorf("the job was disturbed: %v", h.mu.seen)
		}
		c.state(job, "RUNNING")
		if op := c.rescale(job, map[string]any{"parallelism": 1}); op["failure-cause"] != nil || h.count("deploy") != 1 {
			t.Errorf("nothing to change: %v", op)
		}
		h.leave()
		l.kill(t)
	})
}

// A job is rescaled down for another that waits for its slots.
func TestRescaleMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		jar, job := c.start(h)
		if op := c.rescale(job, map[string]any{"parallelism": 2}); op["failure-cause"] != nil {
			t.Fatalf("rescale to 2: %v", op)
		}
		other := c.call("POST", rest1+"/jars/"+jar+"/run", nil, 200)["jobid"].(string)
		c.await("the other job to wait", func() bool {
			return c.call("GET", rest1+"/jobs/"+other, nil, 200)["waiting-for"] == "waits for 1 slots, 0 free on 1 task managers"
		})
		if op := c.rescale(job, map[string]any{"parallelism": 1}); op["failure-cause"] != nil {
			t.Errorf("rescale to 1: %v", op)
		}
		c.state(other, "RUNNING")
		h.leave()
		l.kill(t)
	})
}

// Lower bounds are kept, under another leader too, and are waited for.
func TestLowerBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		_, job := c.start(h)
		url := rest1 + "/jobs/" + job + "/resource-requirements"
		named := func(lower, upper int) map[string]any {
			return map[string]any{"parallelism": map[string]any{"lowerBound": lower, "upperBound": upper}}
		}
		// What is in force is seen before all tasks run with it.
		settled := func() {
			c.await("no rescale", func() bool { return c.call("GET", rest1+"/jobs/"+job, nil, 200)["rescaling"] == nil })
		}
		put := func(lower, upper int) {
			settled()
			c.call("PUT", url, map[string]any{sinkVertex: named(lower, upper)}, 200)
		}
		bounds := func() any { return c.call("GET", url, nil, 200)[sinkVertex].(map[string]any)["parallelism"] }
		is := func(lower, upper float64) bool {
			return cmp.Equal(bounds(), any(map[string]any{"lowerBound": lower, "upperBound": upper}))
		}
		put(2, 8) // between them lies what there is
		c.await("two subtasks", func() bool { return is(2, 2) })
		l.kill(t)
		<-h.done
		l = c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h = c.join(l, "tm1", 2)
		c.state(job, "RUNNING")
		if !is(2, 2) {
			t.Errorf("bounds under another leader: %v", bounds())
		}
		put(3, 8)
		time.Sleep(10 * time.Second)
		if !is(2, 2) {
			t.Errorf("bounds while there are too few slots: %v", bounds())
		}
		second := c.join(l, "tm2", 2)
		c.await("three subtasks", func() bool { return is(3, 3) })
		put(-1, 1)
		c.await("one subtask", func() bool { return is(1, 1) })

		// They may be given by name.
		settled()
		c.call("PUT", url, map[string]any{"delays": named(2, 3)}, 200)
		c.await("bounds by name", func() bool { return is(2, 3) })
		settled()
		for _, x := range []struct {
			body   map[string]any
			status int
			code   string
			names  string
		}{
			{map[string]any{"delays": named(1, 2), sinkVertex: named(2, 2)}, 400, "parallelism-invalid", "one vertex"},
			{map[string]any{"delay": named(1, 2)}, 404, "vertex-not-found", `"delays"`},
			{map[string]any{"delays": named(3, 2)}, 400, "parallelism-invalid", "vertex delays: parallelism from 3 to 2"},
			{map[string]any{"delays": named(0, 2)}, 400, "parallelism-invalid", "at least 1"},
			{map[string]any{"delays": named(129, 129)}, 400, "parallelism-too-large", "128 key groups"},
		} {
			if got := c.call("PUT", url, x.body, x.status); got["code"] != x.code || !strings.Contains(fmt.Sprint(got["detail"]), x.names) {
				t.Errorf("%v: %v", x.body, got)
			}
		}
		if !is(2, 3) {
			t.Errorf("bounds after what was refused: %v", bounds())
		}
		h.leave()
		second.leave()
		l.kill(t)
	})
}
