package dispatch

import (
	"context"
	"io"

	"github.com/millrace/millrace/api"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// logChunk is how much of a log is asked for at a time.
const logChunk = 1 << 20

// Logs lists the log files of a task manager.
func (d *Dispatcher) Logs(ctx context.Context, tm string) ([]*pb.LogFile, error) {
	r, err := d.control.Ask(ctx, tm, &pb.Request{Body: &pb.Request_ListLogs{ListLogs: &pb.ListLogs{}}})
	if err != nil {
		return nil, err
	}
	return r.GetLogs().GetFiles(), nil
}

// Log opens a log file of a task manager, with the size that it has now. The
// name must be one that Logs lists: the task manager checks it too.
func (d *Dispatcher) Log(ctx context.Context, tm, name string) (io.Reader, error) {
	files, err := d.Logs(ctx, tm)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.GetName() == name {
			return &logReader{ctx: ctx, d: d, tm: tm, name: name, end: int64(f.GetSize())}, nil
		}
	}
	return nil, api.Errorf(api.LogNotFound, "task manager %s has no log %q", tm, name)
}

// logReader fetches a log in chunks.
type logReader struct {
	ctx      context.Context
	d        *Dispatcher
	tm, name string
	at, end  int64
	chunk    []byte
}

func (l *logReader) Read(p []byte) (int, error) {
	if len(l.chunk) == 0 {
		if l.at >= l.end {
			return 0, io.EOF
		}
		r, err := l.d.control.Ask(l.ctx, l.tm, &pb.Request{Body: &pb.Request_ReadLog{ReadLog: &pb.ReadLog{
			Name: l.name, Offset: l.at, Limit: uint32(min(logChunk, l.end-l.at))}}})
		if err != nil {
			return 0, err
		}
		l.chunk = r.GetLog().GetData()
		l.at += int64(len(l.chunk))
		if len(l.chunk) == 0 {
			return 0, io.EOF // it was cut meanwhile
		}
	}
	n := copy(p, l.chunk)
	l.chunk = l.chunk[n:]
	return n, nil
}
