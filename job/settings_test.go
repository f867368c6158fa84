package job

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestConfigure(t *testing.T) {
	for name, c := range map[string]struct {
		from  *pb.JobConfig
		given map[string]string
		want  *pb.JobConfig
	}{
		"checkpoints": {
			&pb.JobConfig{CheckpointIntervalMs: 1000},
			map[string]string{
				"execution.checkpointing.interval": "500ms", "execution.checkpointing.timeout": "10 min",
				"execution.checkpointing.tolerable-failed-checkpoints": "3", "state.checkpoints.num-retained": "5",
			},
			&pb.JobConfig{CheckpointIntervalMs: 500, CheckpointTimeoutMs: 600_000, TolerableCheckpointFailures: 3, RetainedCheckpoints: 5},
		},
		"no periodic checkpoints": {
			&pb.JobConfig{CheckpointIntervalMs: 1000}, map[string]string{"execution.checkpointing.interval": "0"}, &pb.JobConfig{},
		},
		"state": {
			&pb.JobConfig{}, map[string]string{"state.backend": "rocksdb", "state.memory": "64mb"},
			&pb.JobConfig{StateBackend: "tiered", StateMemoryBytes: 64 << 20},
		},
		"state in memory": {
			&pb.JobConfig{StateBackend: "tiered"}, map[string]string{"state.backend.type": "hashmap"}, &pb.JobConfig{StateBackend: "memory"},
		},
		"hang":    {&pb.JobConfig{}, map[string]string{"task.hang-timeout": "5s"}, &pb.JobConfig{HangTimeoutMs: 5000}},
		"no hang": {&pb.JobConfig{}, map[string]string{"task.hang-timeout": "off"}, &pb.JobConfig{HangTimeoutMs: -1}},
		"another strategy begins with its defaults": {
			&pb.JobConfig{Restart: &pb.RestartStrategy{Kind: exponential, InitialDelayMs: 7, MaxAttempts: 9}},
			map[string]string{"restart-strategy.type": "fixed-delay"},
			&pb.JobConfig{Restart: &pb.RestartStrategy{Kind: fixed, InitialDelayMs: 1000, MaxAttempts: 1}},
		},
		"the same strategy keeps what the job says": {
			&pb.JobConfig{Restart: &pb.RestartStrategy{Kind: fixed, InitialDelayMs: 7, MaxAttempts: 9}},
			map[string]string{"restart-strategy": "fixed-delay", "restart-strategy.fixed-delay.delay": "20 ms"},
			&pb.JobConfig{Restart: &pb.RestartStrategy{Kind: fixed, InitialDelayMs: 20, MaxAttempts: 9}},
		},
		"rate": {
			&pb.JobConfig{},
			map[string]string{"restart-strategy.type": "failure-rate", "restart-strategy.failure-rate.max-failures-per-interval": "3",
				"restart-strategy.failure-rate.failure-rate-interval": "5min", "restart-strategy.failure-rate.delay": "1.5s"},
			&pb.JobConfig{Restart: &pb.RestartStrategy{Kind: rate, InitialDelayMs: 1500, MaxAttempts: 3, RateIntervalMs: 300_000}},
		},
		"none": {&pb.JobConfig{}, map[string]string{"restart-strategy.type": "off"}, &pb.JobConfig{Restart: &pb.RestartStrategy{Kind: never}}},
		"exponential where the job says nothing": {
			&pb.JobConfig{}, map[string]string{"restart-strategy.exponential-delay.max-backoff": "10s"},
			&pb.JobConfig{Restart: &pb.RestartStrategy{Kind: exponential, InitialDelayMs: 100, MaxDelayMs: 10_000, Multiplier: 2, ResetMs: 10_000, RateIntervalMs: 60_000}},
		},
	} {
		if err := Configure(c.from, c.given); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(c.want, c.from, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestConfigureRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		given      map[string]string
		code, want string
	}{
		"an unknown key":             {map[string]string{"state.backnd": "tiered"}, "setting-unknown", "state.backend.type, state.memory"},
		"one setting by two names":   {map[string]string{"state.backend": "memory", "state.backend.type": "tiered"}, "setting-invalid", "are one"},
		"an interval that is short":  {map[string]string{"execution.checkpointing.interval": "5"}, "setting-invalid", "at least 10ms"},
		"a time without sense":       {map[string]string{"execution.checkpointing.timeout": "soon"}, "setting-invalid", "no time such as"},
		"a negative number":          {map[string]string{"execution.checkpointing.tolerable-failed-checkpoints": "-1"}, "setting-invalid", "0 is without limit"},
		"no retained checkpoint":     {map[string]string{"execution.checkpointing.num-retained": "0"}, "setting-invalid", "from 1"},
		"another backend":            {map[string]string{"state.backend.type": "forst"}, "setting-invalid", "tiered (or rocksdb)"},
		"another strategy":           {map[string]string{"restart-strategy.type": "sometimes"}, "setting-invalid", "failure-rate or none"},
		"a key of another strategy":  {map[string]string{"restart-strategy.type": "none", "restart-strategy.fixed-delay.delay": "1s"}, "setting-invalid", "is for fixed-delay"},
		"memory without tiers":       {map[string]string{"state.memory": "64mb"}, "setting-invalid", "state.backend.type=tiered"},
		"memory that is too little":  {map[string]string{"state.backend.type": "tiered", "state.memory": "64"}, "setting-invalid", "at least 1mb"},
		"a multiplier that shrinks":  {map[string]string{"restart-strategy.exponential-delay.backoff-multiplier": "0.5"}, "setting-invalid", "from 1"},
		"delays in the wrong order":  {map[string]string{"restart-strategy.exponential-delay.initial-backoff": "2min"}, "setting-invalid", "more than max-backoff"},
		"a hang timeout of nothing":  {map[string]string{"task.hang-timeout": "0"}, "setting-invalid", "or off"},
		"a time beyond all measure":  {map[string]string{"execution.checkpointing.timeout": "999999999d"}, "setting-invalid", "out of range"},
		"a size beyond all measure":  {map[string]string{"state.backend.type": "tiered", "state.memory": "99999999t"}, "setting-invalid", "out of range"},
		"an exponent where none fit": {map[string]string{"execution.checkpointing.timeout": "1e3"}, "setting-invalid", "no time"},
	} {
		check(t, name, Configure(&pb.JobConfig{}, c.given), c.code, c.want)
	}
}

// What is shown can be given again and changes nothing.
func TestEffectiveSettingsGivenAgain(t *testing.T) {
	for _, given := range []map[string]string{
		{},
		{"restart-strategy.type": "failure-rate", "task.hang-timeout": "off"},
		{"restart-strategy.type": "fixed-delay", "state.backend.type": "tiered", "state.memory": "1.5g"},
		{"restart-strategy.type": "none", "execution.checkpointing.interval": "0"},
	} {
		c := &pb.JobConfig{CheckpointIntervalMs: 1000, CheckpointTimeoutMs: 60_000, RetainedCheckpoints: 1}
		if err := Configure(c, given); err != nil {
			t.Fatal(err)
		}
		shown := Effective(c)
		for key, v := range given {
			if v != "1.5g" && v != "0" && shown[key] != v {
				t.Errorf("%v: shown is %s=%s", given, key, shown[key])
			}
		}
		if err := Configure(c, shown); err != nil {
			t.Errorf("%v: %v", shown, err)
		}
		if diff := cmp.Diff(shown, Effective(c)); diff != "" {
			t.Errorf("%v, given again (-before +after):\n%s", given, diff)
		}
	}
}

func TestSizesAndTimes(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "512": 512, "1k": 1 << 10, "64mb": 64 << 20, "64 MB": 64 << 20, "1.5g": 3 << 29, "2GiB": 2 << 30, "1t": 1 << 40} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("size %q is %d, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{
		"0": 0, "250": 250 * time.Millisecond, "500ms": 500 * time.Millisecond, "10 s": 10 * time.Second, "1 min": time.Minute,
		"1m30s": 90 * time.Second, "2 h": 2 * time.Hour, "1 d": 24 * time.Hour, "1.5s": 1500 * time.Millisecond,
	} {
		if got, err := parseTime(text); err != nil || got != want {
			t.Errorf("time %q is %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "s", "-1s", "1.2.3s", "1 fortnight", "5us"} {
		if got, err := parseTime(text); err == nil {
			t.Errorf("time %q is %v, want an error", text, got)
		}
	}
}

// Every setting is found by each of its names and says what it wants.
func TestSettingsTable(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Settings() {
		if s.Wants == "" || s.Only != 0 && !strings.HasPrefix(s.Key, "restart-strategy."+strategyNames[s.Only]+".") {
			t.Errorf("setting %+v", s)
		}
		for _, key := range append(s.Others, s.Key) {
			if seen[key] || !KnownSetting(key) {
				t.Errorf("setting %s is twice there, or not found", key)
			}
			seen[key] = true
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, text := range []string{"1m30s", "500 ms", "64mb", "1.5g", "0", "", ".", "1..2", "9999999999999999999t", "1e9s", "-5s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseTime(text); err == nil && (d < 0 || d > maxTime || d%time.Millisecond != 0) {
			t.Errorf("time %q is %v", text, d)
		}
		if n, err := parseSize(text); err == nil && n >= 1<<62 {
			t.Errorf("size %q is %d", text, n)
		}
	})
}
