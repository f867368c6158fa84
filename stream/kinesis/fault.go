package kinesis

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/millrace/millrace/stream"
)

// fault is an error as an AWS client knows it.
type fault struct {
	status  int
	name    string
	message string
}

func (f *fault) Error() string { return f.name + ": " + f.message }

func faultf(name, format string, args ...any) *fault {
	return &fault{status: http.StatusBadRequest, name: name, message: fmt.Sprintf(format, args...)}
}

// The names of Kinesis' errors that are used here.
const (
	resourceNotFound   = "ResourceNotFoundException"
	resourceInUse      = "ResourceInUseException"
	invalidArgument    = "InvalidArgumentException"
	limitExceeded      = "LimitExceededException"
	validation         = "ValidationException"
	expiredIterator    = "ExpiredIteratorException"
	expiredToken       = "ExpiredNextTokenException"
	throughputExceeded = "ProvisionedThroughputExceededException"
	internalFailure    = "InternalFailure"
	serviceUnavailable = "ServiceUnavailable"
	serialization      = "SerializationException"
	unknownOperation   = "UnknownOperationException"
	dryRun             = "DryRunOperationException"
)

// toFault maps an error of the service.
func toFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	switch stream.KindOf(err) {
	case stream.NotFound, stream.ShardNotFound:
		return faultf(resourceNotFound, "%v", err)
	case stream.Exists, stream.InUse:
		return faultf(resourceInUse, "%v", err)
	case stream.InvalidArgument, stream.Closed, stream.Expired:
		return faultf(invalidArgument, "%v", err)
	case stream.LimitExceeded:
		return faultf(limitExceeded, "%v", err)
	case stream.NoHosts, stream.NotOwner, stream.Unavailable, stream.DiskFull:
		// It passes, or somebody mends it: clients try again.
		return &fault{status: http.StatusServiceUnavailable, name: serviceUnavailable, message: err.Error()}
	}
	return &fault{status: http.StatusInternalServerError, name: internalFailure, message: err.Error()}
}

// invalid is the fault of a member that breaks a constraint of the API's model.
func invalid(member string, value any, constraint string) *fault {
	return faultf(validation, "1 validation error detected: Value '%v' at '%s' failed to satisfy constraint: %s", value, member, constraint)
}
