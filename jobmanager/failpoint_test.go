//go:build failpoints

package jobmanager

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// points is the file that arms the points of this process, which reads the
// variable once.
var points string

func init() {
	folder, err := os.MkdirTemp("", "points-")
	if err != nil {
		panic(err)
	}
	points = filepath.Join(folder, "points")
	if err := os.Setenv("MILLRACE_FAILPOINTS", "@"+points); err != nil {
		panic(err)
	}
}

// A barrier that cannot be ordered is declined at once: nobody waits until the
// checkpoint times out, and the job goes on as it was.
func TestPointsBeforeBarriersDecline(t *testing.T) {
	defer os.RemoveAll(filepath.Dir(points))
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		_, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 1") })
		arm := func(text string) {
			if err := os.WriteFile(points, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}

		arm("rescale.before-halt=error")
		began := time.Now()
		cause, _ := c.rescale(job, map[string]any{"parallelism": 2})["failure-cause"].(map[string]any)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the halt was given up after %v", took)
		}
		if detail := fmt.Sprint(cause["detail"]); cause["code"] != "rescale-failed" || !strings.Contains(detail, "rescale.before-halt: injected") {
			t.Errorf("rescale: %v", cause)
		}

		arm("checkpoint.before-trigger=error")
		url := rest1 + "/jobs/" + job + "/savepoints"
		c.await("the job to run", func() bool { return c.call("GET", rest1+"/jobs/"+job, nil, 200)["state"] == "RUNNING" })
		began = time.Now()
		id := c.call("POST", url, map[string]any{}, 202)["request-id"].(string)
		cause, _ = c.poll(url + "/" + id)["failure-cause"].(map[string]any)
		if took := time.Since(began); took > 5*time.Second || !strings.Contains(fmt.Sprint(cause["detail"]), "checkpoint.before-trigger: injected") {
			t.Errorf("savepoint after %v: %v", took, cause)
		}

		arm("")
		if op := c.rescale(job, map[string]any{"parallelism": 2}); op["failure-cause"] != nil {
			t.Errorf("rescale without a fault: %v", op)
		}
		h.leave()
		l.kill(t)
	})
}
