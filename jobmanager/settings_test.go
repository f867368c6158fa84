package jobmanager

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/jobmanager/journal"
)

func TestSettingsOfASubmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 2)
		up := c.upload(rest1, "delays", c.executable(), 200)["filename"].(string)
		run := rest1 + "/jars/" + up[strings.LastIndex(up, "/")+1:] + "/run"

		refused := c.call("POST", run, map[string]any{"configuration": map[string]string{"execution.checkpoint.interval": "5s"}}, 400)
		if detail, _ := refused["detail"].(string); refused["code"] != "setting-unknown" || !strings.Contains(detail, "execution.checkpointing.interval") {
			t.Errorf("unknown setting: %v", refused)
		}
		if h.saw("plan") {
			t.Error("the job was planned although a setting is unknown")
		}
		refused = c.call("POST", run, map[string]any{"configuration": map[string]string{"state.memory": "much"}}, 400)
		if refused["code"] != "setting-invalid" {
			t.Errorf("invalid setting: %v", refused)
		}

		given := map[string]string{"execution.checkpointing.interval": "5s", "state.backend.type": "rocksdb", "restart-strategy.type": "failure-rate"}
		out := c.call("POST", run, map[string]any{
			"configuration":      given,
			"flinkConfiguration": map[string]string{"kubernetes.cluster-id": "x", "execution.checkpointing.tolerable-failed-checkpoints": "4"},
		}, 200)
		if w, _ := out["warnings"].([]any); len(w) != 1 || !strings.Contains(w[0].(string), "kubernetes.cluster-id") || strings.Contains(w[0].(string), "tolerable") {
			t.Errorf("warnings %v", out["warnings"])
		}
		job := out["jobid"].(string)
		c.state(job, "RUNNING")
		given["execution.checkpointing.tolerable-failed-checkpoints"] = "4"

		config := c.call("GET", rest1+"/jobs/"+job+"/config", nil, 200)
		if diff := cmp.Diff(anyMap(given), config["submitted-settings"]); diff != "" {
			t.Errorf("submitted settings (-want +got):\n%s", diff)
		}
		if s := config["settings"].(map[string]any); s["state.backend.type"] != "tiered" || s["task.hang-timeout"] != "1m0s" ||
			s["restart-strategy.failure-rate.delay"] != "1s" || s["restart-strategy.fixed-delay.delay"] != nil {
			t.Errorf("settings %v", s)
		}
		if s := config["execution-config"].(map[string]any)["restart-strategy"]; s != "failure rate of at most 1 in 1m0s, delay of 1s" {
			t.Errorf("restart strategy %v", s)
		}
		cp := c.call("GET", rest1+"/jobs/"+job+"/checkpoints/config", nil, 200)
		if cp["interval"] != 5000.0 || cp["state_backend"] != "tiered" || cp["tolerable_failed_checkpoints"] != 4.0 {
			t.Errorf("checkpoint config %v", cp)
		}

		fold, err := journal.Read(t.Context(), c.bucket)
		if err != nil {
			t.Fatal(err)
		}
		r := journal.Job(fold, job).GetSubmitted()
		if diff := cmp.Diff(given, r.GetSettings()); diff != "" {
			t.Errorf("journalled settings (-want +got):\n%s", diff)
		}
		// Workers find the plan's own hash again, whatever was set.
		if g := r.GetGraph(); string(g.GetPlanHash()) != "plan" || g.GetConfig().GetStateBackend() != "tiered" {
			t.Errorf("journalled graph has hash %q, config %v", g.GetPlanHash(), g.GetConfig())
		}
		h.leave()
		l.kill(t)
	})
}

func anyMap(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}
