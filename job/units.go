package job

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxTime bounds a setting: years, so that no sum of times overflows.
const maxTime = 10 * 365 * 24 * time.Hour

var timeUnits = map[string]time.Duration{
	"":  time.Millisecond, // as in Flink
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
	"h": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
	"ms": time.Millisecond, "milli": time.Millisecond, "millis": time.Millisecond,
	"millisecond": time.Millisecond, "milliseconds": time.Millisecond,
}

var sizeUnits = map[string]uint64{
	"": 1, "b": 1, "bytes": 1,
	"k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10,
	"m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20,
	"g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30,
	"t": 1 << 40, "tb": 1 << 40, "tib": 1 << 40,
}

// parseTime reads a time as Flink does (500ms, 10 s, 1 min; without a unit
// milliseconds) or as Go does (1m30s). A number may have decimals.
func parseTime(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		if d < 0 || d > maxTime {
			return 0, fmt.Errorf("%q is out of range", text)
		}
		if d%time.Millisecond != 0 {
			return 0, fmt.Errorf("%q is finer than a millisecond", text)
		}
		return d, nil
	}
	number, unit := splitUnit(text)
	f, err := strconv.ParseFloat(number, 64)
	u, ok := timeUnits[unit]
	if err != nil || !ok {
		return 0, fmt.Errorf("%q is no time such as 500ms, 10s or 1min", text)
	}
	if f *= float64(u); f > float64(maxTime) {
		return 0, fmt.Errorf("%q is out of range", text)
	}
	return time.Duration(math.Round(f/1e6)) * time.Millisecond, nil
}

// parseSize reads a size: 64mb, 1g, 1.5 GiB; units are powers of 1024, as in
// Flink, without one bytes.
func parseSize(text string) (uint64, error) {
	number, unit := splitUnit(text)
	f, err := strconv.ParseFloat(number, 64)
	u, ok := sizeUnits[unit]
	if err != nil || !ok {
		return 0, fmt.Errorf("%q is no size such as 512kb, 64mb or 1g", text)
	}
	if f *= float64(u); f >= 1<<62 {
		return 0, fmt.Errorf("%q is out of range", text)
	}
	return uint64(f), nil
}

// splitUnit takes a number apart from its unit. The number has digits and one
// dot at most: no sign, no exponent.
func splitUnit(text string) (number, unit string) {
	end := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		end = len(text)
	}
	return text[:end], strings.ToLower(strings.TrimSpace(text[end:]))
}
