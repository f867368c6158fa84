package job

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter is what a submission may set about a job, by Flink's names for
// it (docs/settings.md). It changes the graph's config after the plan, so the
// plan hash stays the one that workers find again.

// Setting is one key of a job's configuration.
type Setting struct {
	Key string
	// Others are further names of the key: Flink's former ones, and those for
	// which this one stands.
	Others []string
	// Wants says which values there are.
	Wants string
	// Only is the restart strategy that has the key, 0 for any.
	Only pb.RestartStrategy_Kind

	set func(c *pb.JobConfig, value string) error
	get func(c *pb.JobConfig) string
}

// Bounds of settings.
const (
	shortest  = 10 * time.Millisecond
	leastHang = time.Second
	leastTier = 1 << 20
)

// Defaults of Flink for the restart strategies that a submission chooses: what
// the strategy of the job's code says does not apply to another strategy.
const (
	chosenDelay    = time.Second
	chosenAttempts = 1
	chosenInterval = time.Minute
)

// settings are the keys in the order in which they are applied: the type of
// the restart strategy comes before what belongs to it.
var settings = []Setting{
	{
		Key: "execution.checkpointing.interval", Wants: "a time of at least 10ms, or 0 for no periodic checkpoints",
		set: func(c *pb.JobConfig, v string) error {
			d, err := parseTime(v)
			if err == nil && d != 0 && d < shortest {
				err = fmt.Errorf("%v is too short", d)
			}
			c.CheckpointIntervalMs = d.Milliseconds()
			return err
		},
		get: func(c *pb.JobConfig) string { return showTime(c.GetCheckpointIntervalMs()) },
	},
	{
		Key: "execution.checkpointing.timeout", Wants: "a time of at least 10ms",
		set: setTime(shortest, func(c *pb.JobConfig, ms int64) { c.CheckpointTimeoutMs = ms }),
		get: func(c *pb.JobConfig) string { return showTime(c.GetCheckpointTimeoutMs()) },
	},
	{
		Key: "execution.checkpointing.tolerable-failed-checkpoints", Wants: "a whole number; 0 is without limit",
		set: setCount(0, func(c *pb.JobConfig, n uint32) { c.TolerableCheckpointFailures = n }),
		get: func(c *pb.JobConfig) string { return showCount(c.GetTolerableCheckpointFailures()) },
	},
	{
		Key: "execution.checkpointing.num-retained", Others: []string{"state.checkpoints.num-retained"}, Wants: "a whole number from 1",
		set: setCount(1, func(c *pb.JobConfig, n uint32) { c.RetainedCheckpoints = n }),
		get: func(c *pb.JobConfig) string { return showCount(c.GetRetainedCheckpoints()) },
	},
	{
		Key: "restart-strategy.type", Others: []string{"restart-strategy"}, Wants: "exponential-delay, fixed-delay, failure-rate or none",
		set: chooseStrategy,
		get: func(c *pb.JobConfig) string { return strategyNames[strategyOf(c.GetRestart()).GetKind()] },
	},
	strategyTime(exponential, "initial-backoff", func(r *pb.RestartStrategy) *int64 { return &r.InitialDelayMs }),
	strategyTime(exponential, "max-backoff", func(r *pb.RestartStrategy) *int64 { return &r.MaxDelayMs }),
	{
		Key: "restart-strategy.exponential-delay.backoff-multiplier", Wants: "a number from 1", Only: exponential,
		set: func(c *pb.JobConfig, v string) error {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil || f < 1 || math.IsInf(f, 0) || math.IsNaN(f) {
				return fmt.Errorf("%q is no such number", v)
			}
			c.Restart.Multiplier = f
			return nil
		},
		get: func(c *pb.JobConfig) string {
			return strconv.FormatFloat(strategyOf(c.GetRestart()).GetMultiplier(), 'g', -1, 64)
		},
	},
	strategyTime(exponential, "reset-backoff-threshold", func(r *pb.RestartStrategy) *int64 { return &r.ResetMs }),
	strategyCount(exponential, "attempts-before-reset-backoff", 0, "a whole number; 0 is without limit"),
	strategyCount(fixed, "attempts", 0, "a whole number; 0 is without limit"),
	strategyTime(fixed, "delay", func(r *pb.RestartStrategy) *int64 { return &r.InitialDelayMs }),
	strategyCount(rate, "max-failures-per-interval", 1, "a whole number from 1"),
	strategyTime(rate, "failure-rate-interval", func(r *pb.RestartStrategy) *int64 { return &r.RateIntervalMs }),
	strategyTime(rate, "delay", func(r *pb.RestartStrategy) *int64 { return &r.InitialDelayMs }),
	{
		Key: "state.backend.type", Others: []string{"state.backend"}, Wants: "memory (or hashmap) or tiered (or rocksdb)",
		set: func(c *pb.JobConfig, v string) error {
			switch v {
			case "memory", "hashmap":
				c.StateBackend = BackendMemory
			case "tiered", "rocksdb":
				c.StateBackend = BackendTiered
			default:
				return fmt.Errorf("%q is no such backend", v)
			}
			return nil
		},
		get: func(c *pb.JobConfig) string {
			if c.GetStateBackend() == "" {
				return BackendMemory
			}
			return c.GetStateBackend()
		},
	},
	{
		Key: "state.memory", Others: []string{"state.backend.rocksdb.memory.fixed-per-slot"},
		Wants: "a size of at least 1mb, for the tiered backend: what each slot keeps of its state in memory",
		set: func(c *pb.JobConfig, v string) error {
			n, err := parseSize(v)
			if err == nil && n < leastTier {
				err = fmt.Errorf("%s is too little", v)
			}
			c.StateMemoryBytes = n
			return err
		},
		get: func(c *pb.JobConfig) string {
			if c.GetStateMemoryBytes() == 0 {
				return ""
			}
			return strconv.FormatUint(c.GetStateMemoryBytes(), 10) + "b"
		},
	},
	{
		Key: "task.hang-timeout", Wants: "a time of at least 1s, or off",
		set: func(c *pb.JobConfig, v string) error {
			if v == "off" {
				c.HangTimeoutMs = -1
				return nil
			}
			return setTime(leastHang, func(c *pb.JobConfig, ms int64) { c.HangTimeoutMs = ms })(c, v)
		},
		get: func(c *pb.JobConfig) string {
			switch ms := c.GetHangTimeoutMs(); {
			case ms < 0:
				return "off"
			case ms == 0:
				return "1m0s"
			default:
				return showTime(ms)
			}
		},
	},
}

// State backends as JobConfig.state_backend names them.
const (
	BackendMemory = "memory"
	BackendTiered = "tiered"
)

const (
	exponential = pb.RestartStrategy_KIND_EXPONENTIAL
	fixed       = pb.RestartStrategy_KIND_FIXED
	rate        = pb.RestartStrategy_KIND_RATE
	never       = pb.RestartStrategy_KIND_NONE
)

var strategyNames = map[pb.RestartStrategy_Kind]string{
	exponential: "exponential-delay", fixed: "fixed-delay", rate: "failure-rate", never: "none",
}

// Settings are the keys that a submission may set.
func Settings() []Setting { return slices.Clone(settings) }

// known finds a setting by any of its names.
func known(key string) (int, bool) {
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == key || slices.Contains(s.Others, key) })
	return i, i >= 0
}

// KnownSetting says whether a submission may set a key.
func KnownSetting(key string) bool {
	_, ok := known(key)
	return ok
}

// Configure applies settings of a submission to a job's config. The error is
// an *Error that names the key and what it may be; then c is of no use.
func Configure(c *pb.JobConfig, given map[string]string) error {
	values := make([]*string, len(settings))
	names := make([]string, len(settings))
	for _, key := range slices.Sorted(maps.Keys(given)) {
		i, ok := known(key)
		if !ok {
			return errorf(codeSettingUnknown, "setting %q is not known; known are %s", key, strings.Join(settingKeys(), ", "))
		}
		if values[i] != nil {
			return errorf(codeSettingInvalid, "settings %s and %s are one: give one of them", names[i], key)
		}
		v := strings.TrimSpace(given[key])
		values[i], names[i] = &v, key
	}
	for i, v := range values {
		if v == nil {
			continue
		}
		s := settings[i]
		if s.Only != 0 {
			if is := strategyOf(c.GetRestart()).GetKind(); is != s.Only {
				return errorf(codeSettingInvalid, "setting %s is for %s, the job's restart-strategy.type is %s", names[i], strategyNames[s.Only], strategyNames[is])
			}
			if c.Restart == nil {
				c.Restart = strategyOf(nil)
			}
		}
		if err := s.set(c, *v); err != nil {
			return errorf(codeSettingInvalid, "setting %s=%s: %v; it wants %s", names[i], *v, err, s.Wants)
		}
	}
	if c.GetStateMemoryBytes() > 0 && c.GetStateBackend() != BackendTiered {
		return errorf(codeSettingInvalid, "state.memory bounds the tiered backend: set state.backend.type=tiered with it")
	}
	if r := c.GetRestart(); r.GetKind() == exponential && r.GetMaxDelayMs() > 0 && r.GetInitialDelayMs() > r.GetMaxDelayMs() {
		return errorf(codeSettingInvalid, "restart-strategy.exponential-delay: initial-backoff %s is more than max-backoff %s",
			showTime(r.GetInitialDelayMs()), showTime(r.GetMaxDelayMs()))
	}
	return nil
}

func settingKeys() []string {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.Key
	}
	return keys
}

// Effective is what holds for a job, by key. Keys of other restart strategies
// than the job's are left out, and those that say nothing.
func Effective(c *pb.JobConfig) map[string]string {
	kind := strategyOf(c.GetRestart()).GetKind()
	all := map[string]string{}
	for _, s := range settings {
		if s.Only != 0 && s.Only != kind {
			continue
		}
		if v := s.get(c); v != "" {
			all[s.Key] = v
		}
	}
	return all
}

// chooseStrategy sets a strategy. One of another kind than the job's code chose
// begins with Flink's defaults, but for exponential delay, whose are ours.
func chooseStrategy(c *pb.JobConfig, v string) error {
	kind := pb.RestartStrategy_KIND_UNSPECIFIED
	for k, name := range strategyNames {
		if v == name {
			kind = k
		}
	}
	switch v {
	case "off", "disable":
		kind = never
	case "fixeddelay":
		kind = fixed
	case "failurerate":
		kind = rate
	case "exponentialdelay":
		kind = exponential
	}
	if kind == pb.RestartStrategy_KIND_UNSPECIFIED {
		return fmt.Errorf("%q is no such strategy", v)
	}
	if strategyOf(c.GetRestart()).GetKind() == kind && c.GetRestart() != nil {
		return nil
	}
	c.Restart = &pb.RestartStrategy{Kind: kind}
	switch kind {
	case fixed:
		c.Restart.InitialDelayMs, c.Restart.MaxAttempts = chosenDelay.Milliseconds(), chosenAttempts
	case rate:
		c.Restart.InitialDelayMs, c.Restart.MaxAttempts = chosenDelay.Milliseconds(), chosenAttempts
		c.Restart.RateIntervalMs = chosenInterval.Milliseconds()
	case exponential:
		c.Restart = strategyOf(nil)
	}
	return nil
}

func strategyTime(kind pb.RestartStrategy_Kind, name string, field func(*pb.RestartStrategy) *int64) Setting {
	return Setting{
		Key: "restart-strategy." + strategyNames[kind] + "." + name, Wants: "a time of at least 1ms", Only: kind,
		set: setTime(time.Millisecond, func(c *pb.JobConfig, ms int64) { *field(c.Restart) = ms }),
		get: func(c *pb.JobConfig) string { return showTime(*field(strategyOf(c.GetRestart()))) },
	}
}

func strategyCount(kind pb.RestartStrategy_Kind, name string, least uint32, wants string) Setting {
	return Setting{
		Key: "restart-strategy." + strategyNames[kind] + "." + name, Wants: wants, Only: kind,
		set: setCount(least, func(c *pb.JobConfig, n uint32) { c.Restart.MaxAttempts = n }),
		get: func(c *pb.JobConfig) string { return showCount(c.GetRestart().GetMaxAttempts()) },
	}
}

func setTime(least time.Duration, set func(*pb.JobConfig, int64)) func(*pb.JobConfig, string) error {
	return func(c *pb.JobConfig, v string) error {
		d, err := parseTime(v)
		if err == nil && d < least {
			err = fmt.Errorf("%v is too short", d)
		}
		set(c, d.Milliseconds())
		return err
	}
}

func setCount(least uint32, set func(*pb.JobConfig, uint32)) func(*pb.JobConfig, string) error {
	return func(c *pb.JobConfig, v string) error {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil || uint32(n) < least {
			return fmt.Errorf("%q is no such number", v)
		}
		set(c, uint32(n))
		return nil
	}
}

func showTime(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

func showCount(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
