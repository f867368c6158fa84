package files

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// upload is the way of one part to the bucket: at once, out of data, or as it
// grows, through stream.
type upload struct {
	partition string
	name      string
	size      uint64
	data      []byte
	stream    *io.PipeWriter
	// done is closed when the part is durable or given up; err is for after.
	done chan struct{}
	err  error
}

func (w *writer[T]) key(u *upload) string { return stagedFolder(w.id, w.env.Epoch) + u.name }

// send uploads a whole part. An upload that fails is repeated for a while.
func (w *writer[T]) send(u *upload, wait bool) error {
	if wait {
		if err := w.slot(); err != nil {
			return err
		}
	}
	w.group.Go(func() {
		defer close(u.done)
		if !wait {
			if u.err = w.slot(); u.err != nil {
				return
			}
		}
		defer func() { <-w.slots }()
		u.err = w.fail(w.insist(func() error {
			return w.bucket.Put(w.requests, w.key(u), bytes.NewReader(u.data), int64(len(u.data)))
		}))
		u.data = nil
	})
	return nil
}

// slot waits until fewer than uploads are under way.
func (w *writer[T]) slot() error {
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// insist repeats put, with growing pauses, until patience or the attempt is over.
func (w *writer[T]) insist(put func() error) error {
	for pause, waited := 100*time.Millisecond, time.Duration(0); ; pause = min(2*pause, 5*time.Second) {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		err := put()
		if err == nil || waited+pause > w.patience {
			return err
		}
		waited += pause
		select {
		case <-time.After(pause):
		case <-w.ctx.Done():
			return err
		}
	}
}

// fail notes the first error, with which the writer is of no use any more, and
// fails the task unless that is over.
func (w *writer[T]) fail(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("stage a part in %s: %w", w.location, err)
	w.mu.Lock()
	first := w.mu.err == nil
	if first {
		w.mu.err = err
	}
	w.mu.Unlock()
	if first && w.ctx.Err() == nil {
		w.env.Fail(err)
	}
	return err
}

// spill sends what a part holds through its stream, which it begins. Streams
// are as many as open parts: they must not wait for each other.
func (w *writer[T]) spill(p *part) error {
	u := p.upload
	if len(p.buf) == 0 {
		return nil
	}
	if u.stream == nil {
		var r *io.PipeReader
		r, u.stream = io.Pipe()
		w.group.Go(func() {
			defer close(u.done)
			stop := context.AfterFunc(w.ctx, func() { r.CloseWithError(w.ctx.Err()) }) // who writes waits no longer
			defer stop()
			u.err = w.fail(w.bucket.Put(w.requests, w.key(u), r, -1))
			r.CloseWithError(io.ErrClosedPipe) // what is written still has no reader
		})
	}
	if _, err := u.stream.Write(p.buf); err != nil {
		<-u.done
		if u.err != nil {
			return u.err
		}
		return err
	}
	p.gone += int64(len(p.buf))
	p.buf = p.buf[:0]
	return nil
}
