package stream

import (
	"context"
	"errors"
	"fmt"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Kind is what went wrong, from a closed list. Its code crosses the wire in
// pb.Error.code.
type Kind uint8

const (
	// Internal: a bug, or an error of a kind the other side does not know.
	Internal Kind = iota
	// NotFound: no such stream.
	NotFound
	// ShardNotFound: the stream has no such shard.
	ShardNotFound
	// Exists: a stream of this name exists.
	Exists
	// InUse: the stream is being created or deleted.
	InUse
	// InvalidArgument: the request can never succeed.
	InvalidArgument
	// LimitExceeded: more than a limit of this package allows.
	LimitExceeded
	// NoHosts: no task manager is there to host shards.
	NoHosts
	// NotOwner: this host does not own the shard, or with another epoch; the
	// catalog tells who does.
	NotOwner
	// StaleEpoch: a newer attempt of the job has fenced this one.
	StaleEpoch
	// Closed: the shard was split or merged and takes no more records.
	Closed
	// Unavailable: the shard's host is away, or the connection broke and the
	// outcome of a write is not known.
	Unavailable
	// Expired: retention has removed what was asked for.
	Expired
	// Incomplete: a commit names more blocks than are staged.
	Incomplete
	// DiskFull: the host's disk has no room; nothing was written.
	DiskFull
	// StoreFailed: the host's shard store failed to write or sync and takes no
	// more writes until its process is started again; or it could not be read.
	StoreFailed
	// FolderInUse: another process has the shard store open.
	FolderInUse
	// Corrupt: bytes of the log, or of a frame, do not match their checksum.
	Corrupt
)

var kinds = [...]struct{ name, code string }{
	Internal:        {"internal error", "internal"},
	NotFound:        {"stream not found", "stream-not-found"},
	ShardNotFound:   {"shard not found", "shard-not-found"},
	Exists:          {"stream exists", "stream-exists"},
	InUse:           {"stream is changing", "stream-busy"},
	InvalidArgument: {"invalid argument", "stream-invalid"},
	LimitExceeded:   {"limit exceeded", "stream-limit"},
	NoHosts:         {"no hosts", "stream-no-hosts"},
	NotOwner:        {"not the owner", "not-owner"},
	StaleEpoch:      {"stale epoch", "stale-epoch"},
	Closed:          {"shard closed", "shard-closed"},
	Unavailable:     {"unavailable", "shard-unavailable"},
	Expired:         {"expired", "records-expired"},
	Incomplete:      {"transaction incomplete", "transaction-incomplete"},
	DiskFull:        {"disk full", "disk-full"},
	StoreFailed:     {"shard store failed", "shard-store-failed"},
	FolderInUse:     {"folder in use", "folder-in-use"},
	Corrupt:         {"corrupt", "shard-corrupt"},
}

// String names the kind.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k].name
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Code is the kind's key in the error catalogue.
func (k Kind) Code() string {
	if int(k) < len(kinds) {
		return kinds[k].code
	}
	return kinds[Internal].code
}

// Error is every error of the stream rooms.
type Error struct {
	Kind Kind
	// Message names the thing and the remedy.
	Message string
	// Subject is the shard of a Closed error: whoever is refused may have to know
	// whether it was refused there before.
	Subject string
	// Err is the cause, nil when there is none or it did not cross the wire.
	Err error
}

// Errorf makes an error. A %w in the format becomes the cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// ErrorCode is the kind's code, for the edges that map errors to the catalogue.
func (e *Error) ErrorCode() string { return e.Kind.Code() }

// ErrorSubject is what the error is about, for the same edges.
func (e *Error) ErrorSubject() string { return e.Subject }

// Is matches another *Error of the same kind, so that
// errors.Is(err, &Error{Kind: k}) asks for a kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind
}

// KindOf is the kind of err: that of the *Error in its chain, else Internal.
// A context's end is Unavailable.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Unavailable
	}
	return Internal
}

// ToProto makes the wire form; nil stays nil.
func ToProto(err error) *pb.Error {
	if err == nil {
		return nil
	}
	out := &pb.Error{Code: KindOf(err).Code(), Message: err.Error()}
	if e, ok := errors.AsType[*Error](err); ok {
		out.Subject = e.Subject
	}
	return out
}

// FromProto is the other way; nil stays nil. An unknown code is Internal.
func FromProto(e *pb.Error) error {
	if e == nil {
		return nil
	}
	for k := range kinds {
		if kinds[k].code == e.GetCode() {
			return &Error{Kind: Kind(k), Message: e.GetMessage(), Subject: e.GetSubject()}
		}
	}
	return &Error{Kind: Internal, Message: fmt.Sprintf("%s (%s)", e.GetMessage(), e.GetCode())}
}
