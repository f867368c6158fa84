package cluster

import (
	"context"
	"log"
	"log/slog"
	"strings"
)

// bridge gives memberlist a logger that ends in slog, one level quieter than
// memberlist means it: an unreachable member is news, not our error.
func bridge(to *slog.Logger) *log.Logger {
	return log.New(lines{to}, "", 0)
}

type lines struct{ to *slog.Logger }

// Write takes one line of the form "[LEVEL] memberlist: text".
func (l lines) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelDebug
	if mark, rest, ok := strings.Cut(text, "] "); ok {
		text = strings.TrimPrefix(rest, "memberlist: ")
		switch mark {
		case "[ERR", "[ERROR":
			level = slog.LevelWarn
		case "[WARN":
			level = slog.LevelInfo
		}
	}
	l.to.Log(context.Background(), level, "gossip", "detail", text)
	return len(line), nil
}
