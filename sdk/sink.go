package sdk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/runtime/sink"
)

// What a sink is made of. A Sink opens a writer for each subtask, which takes
// batches. A Transactional sink's output is seen only once the checkpoint that
// covers it has completed; any other sink sees records again after a failure:
// it delivers at least once.
//
// A Sink may also have these methods: Name() string, its name in the job graph
// where To is given none; Check() error, asked in plan mode; and those of
// PatientSink and ExpiringSink.
//
// Each call and what it must promise is documented at the type in package
// runtime/sink (go doc github.com/millrace/millrace/runtime/sink), docs/sinks.md
// says how to write one that is exactly-once, and sdktest/sinktest proves it.
type (
	Sink[T any]   = sink.Sink[T]
	Writer[T any] = sink.Writer[T]
	// SinkEnv is what a sink may use of its surroundings.
	SinkEnv = sink.Env
	// Transactional is a Sink of two phases, Preparer its writer: a barrier
	// ends a transaction, whose handle travels in the checkpoint; when that has
	// completed, Commit shows it, and after a failure Recover does, which also
	// shuts out every older epoch and removes what no checkpoint holds.
	Transactional = sink.Transactional
	Preparer      = sink.Preparer
	// Handle is what one subtask prepared for one checkpoint.
	Handle = sink.Handle
	// PatientSink gains nothing from checkpoints before their interval.
	PatientSink = sink.Patient
	// ExpiringSink has a target that forgets what was prepared after a while.
	ExpiringSink = sink.Expiring
)

// Refused marks an error of a sink that no repetition mends: it ends the job,
// instead of restarting it for ever. The last checkpoint keeps what was prepared.
func Refused(err error) error { return sink.Refused(err) }

// Stale marks an error of a sink's writer or commit whose epoch is over.
func Stale(err error) error { return sink.Stale(err) }

// Func is a sink that calls f with each record, at least once. With a
// parallelism above 1, f is called by several goroutines at once. Its error
// fails the job, which then restarts.
func Func[T any](f func(v T) error) Sink[T] {
	return funcSink[T]{func(values []T) error {
		for i := range values {
			if err := f(values[i]); err != nil {
				return err
			}
		}
		return nil
	}}
}

// FuncBatch is Func with all the records of a batch. f must not keep the slice.
func FuncBatch[T any](f func(values []T) error) Sink[T] { return funcSink[T]{f} }

type funcSink[T any] struct{ f func([]T) error }

func (funcSink[T]) Name() string { return "to-func" }

func (s funcSink[T]) Check() error {
	if s.f == nil {
		return errors.New("the function of the sink is nil")
	}
	return nil
}

func (s funcSink[T]) Open(context.Context, SinkEnv) (Writer[T], error) { return s, nil }

func (s funcSink[T]) Write(b *Batch[T]) error { return s.f(b.Values) }

func (funcSink[T]) Flush() error { return nil }

func (funcSink[T]) Close() error { return nil }

// Print is a sink that writes records to standard output, one a line, in the
// form that codec gives them (JSON[T]() for most). Lines of parallel subtasks
// do not mix. In a cluster that is the worker's log.
func Print[T any](codec Codec[T]) Sink[T] { return printSink[T]{codec} }

type printSink[T any] struct{ codec Codec[T] }

func (printSink[T]) Name() string { return "to-stdout" }

func (s printSink[T]) Check() error { return check(s.codec) }

func (s printSink[T]) Open(context.Context, SinkEnv) (Writer[T], error) {
	return &printWriter[T]{codec: s.codec}, nil
}

// printWriter writes each batch at once, so that lines stay whole and a reader
// sees them without delay.
type printWriter[T any] struct {
	codec Codec[T]
	buf   []byte
}

func (w *printWriter[T]) Write(b *Batch[T]) (err error) {
	w.buf = w.buf[:0]
	for i := range b.Values {
		if w.buf, err = w.codec.Append(w.buf, b.Values[i]); err != nil {
			return fmt.Errorf("print: encode %+v: %w", b.Values[i], err)
		}
		w.buf = append(w.buf, '\n')
	}
	_, err = os.Stdout.Write(w.buf)
	return err
}

func (w *printWriter[T]) Flush() error { return nil }

func (w *printWriter[T]) Close() error { return nil }

// WriteFiles is a sink that appends records as lines to files in a folder, one
// file a subtask: part-0, part-1 and so on. It creates the folder. Lines reach
// the file system with every checkpoint and when the input pauses, and are
// delivered at least once: after a failure, lines since the last checkpoint are
// appended again. Package connector/files writes each once.
func WriteFiles[T any](folder string, codec Codec[T]) Sink[T] {
	return fileSink[T]{folder, codec}
}

type fileSink[T any] struct {
	folder string
	codec  Codec[T]
}

func (s fileSink[T]) Name() string { return "to-" + filepath.Base(s.folder) }

func (s fileSink[T]) Check() error {
	if s.folder == "" {
		return errors.New("WriteFiles: the folder is empty")
	}
	return check(s.codec)
}

func (s fileSink[T]) Open(_ context.Context, env SinkEnv) (Writer[T], error) {
	if err := os.MkdirAll(s.folder, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(s.folder, fmt.Sprintf("part-%d", env.Subtask))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &fileWriter[T]{codec: s.codec, file: f, out: bufio.NewWriterSize(f, 1<<16)}, nil
}

type fileWriter[T any] struct {
	codec Codec[T]
	file  *os.File
	out   *bufio.Writer
	line  []byte
}

func (w *fileWriter[T]) Write(b *Batch[T]) (err error) {
	for i := range b.Values {
		if w.line, err = w.codec.Append(w.line[:0], b.Values[i]); err != nil {
			return fmt.Errorf("file %s: encode %+v: %w", w.file.Name(), b.Values[i], err)
		}
		w.line = append(w.line, '\n')
		if _, err = w.out.Write(w.line); err != nil {
			return err
		}
	}
	return nil
}

func (w *fileWriter[T]) Flush() error { return w.out.Flush() }

// Close gives up what was not flushed: it belongs to no checkpoint.
func (w *fileWriter[T]) Close() error { return w.file.Close() }

// outlives refuses a sink whose target forgets what was prepared before the job
// can have committed it: a checkpoint's interval and time limit, and the time in
// which a failed job may be got going again.
func (e *Env) outlives(s any) error {
	x, ok := s.(ExpiringSink)
	if !ok {
		return nil
	}
	c := e.g.Config
	needs := time.Duration(c.GetCheckpointIntervalMs()+c.GetCheckpointTimeoutMs())*time.Millisecond + sink.RecoveryBudget
	if has := x.TimeToLoss(); has < needs {
		return fmt.Errorf("its target forgets what was prepared after %v, which loses output if the job is down for longer: "+
			"raise that to at least %v (checkpoint interval and timeout, and %v to recover), or checkpoint more often", has, needs, sink.RecoveryBudget)
	}
	return nil
}
