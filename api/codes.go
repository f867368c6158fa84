package api

import (
	"net/http"
	"slices"
	"strings"
)

// Code is a key of the error catalogue.
type Code string

// Codes of requests and of the server itself.
const (
	Internal            Code = "internal"
	BadRequest          Code = "bad-request"
	MalformedID         Code = "malformed-id"
	RouteNotFound       Code = "route-not-found"
	Unauthorized        Code = "unauthorized"
	HostRefused         Code = "host-refused"
	CrossOriginRefused  Code = "cross-origin-refused"
	RequestTooLarge     Code = "request-too-large"
	TooManyRequests     Code = "too-many-requests"
	NameTooLong         Code = "name-too-long"
	NameInvalid         Code = "name-invalid"
	NotSupported        Code = "not-supported"
	TimedOut            Code = "timed-out"
	ShuttingDown        Code = "shutting-down"
	ConfigInvalid       Code = "config-invalid"
	InsecureBind        Code = "insecure-bind"
	PortInUse           Code = "port-in-use"
	FolderInUse         Code = "folder-in-use"
	DiskFull            Code = "disk-full"
	LeadershipLost      Code = "leadership-lost"
	NotLeader           Code = "not-leader"
	BucketUnavailable   Code = "bucket-unavailable"
	JournalCorrupt      Code = "journal-corrupt"
	ClusterMismatch     Code = "cluster-mismatch"
	ProtocolMismatch    Code = "protocol-mismatch"
	TaskManagerNotFound Code = "task-manager-not-found"
	TaskManagerLost     Code = "task-manager-lost"
	TaskManagerBusy     Code = "task-manager-busy"
	TaskManagerReplaced Code = "task-manager-replaced"
	LogNotFound         Code = "log-not-found"
)

// Codes of binaries and their plans.
const (
	BinaryNotFound      Code = "binary-not-found"
	BinaryNotExecutable Code = "binary-not-executable"
	BinaryWrongPlatform Code = "binary-wrong-platform"
	BinaryWithoutSDK    Code = "binary-without-sdk"
	BinaryTooLarge      Code = "binary-too-large"
	BinaryCorrupt       Code = "binary-corrupt"
	UploadIncomplete    Code = "upload-incomplete"
	BuildFailed         Code = "build-failed"
	PlanDiffers         Code = "plan-differs"
	PlanTimedOut        Code = "plan-timed-out"
	GraphInvalid        Code = "graph-invalid"
	ArgumentsInvalid    Code = "arguments-invalid"
	SettingUnknown      Code = "setting-unknown"
	SettingInvalid      Code = "setting-invalid"
)

// Codes of jobs.
const (
	JobNotFound        Code = "job-not-found"
	JobExists          Code = "job-exists"
	JobEnded           Code = "job-ended"
	JobStopping        Code = "job-stopping"
	JobNotRunning      Code = "job-not-running"
	JobCanceled        Code = "job-canceled"
	JobNameAmbiguous   Code = "job-name-ambiguous"
	VertexNotFound     Code = "vertex-not-found"
	SubtaskNotFound    Code = "subtask-not-found"
	TriggerNotFound    Code = "trigger-not-found"
	SlotsUnavailable   Code = "slots-unavailable"
	RestartsExhausted  Code = "restarts-exhausted"
	WorkerExited       Code = "worker-exited"
	WorkerLost         Code = "worker-lost"
	WorkerUnresponsive Code = "worker-unresponsive"
	WorkerStartFailed  Code = "worker-start-failed"
	WorkerHung         Code = "worker-hung"
	TaskHung           Code = "task-hung"
	MemoryExceeded     Code = "memory-exceeded"
	DeployFailed       Code = "deploy-failed"
	DataPlaneFailed    Code = "data-plane-failed"
	UserFunctionFailed Code = "user-function-failed"
	UserFunctionPanic  Code = "user-function-panicked"
	RecordNotDecoded   Code = "record-not-decoded"
	RecordNotEncoded   Code = "record-not-encoded"
	SourceFailed       Code = "source-failed"
	SinkFailed         Code = "sink-failed"
	OutputRefused      Code = "output-refused"
	StaleEpoch         Code = "stale-epoch"
)

// Codes of checkpoints, savepoints and state.
const (
	CheckpointNotFound  Code = "checkpoint-not-found"
	CheckpointFailed    Code = "checkpoint-failed"
	CheckpointDeclined  Code = "checkpoint-declined"
	CheckpointTimedOut  Code = "checkpoint-timed-out"
	CheckpointOverlap   Code = "checkpoint-in-progress"
	CheckpointsExceeded Code = "checkpoint-failures-exceeded"
	SavepointNotFound   Code = "savepoint-not-found"
	SavepointFailed     Code = "savepoint-failed"
	SavepointForeign    Code = "savepoint-of-another-job"
	SavepointInUse      Code = "savepoint-in-use"
	CheckpointInUse     Code = "checkpoint-in-use"
	SnapshotCorrupt     Code = "snapshot-corrupt"
	SnapshotTruncated   Code = "snapshot-truncated"
	SnapshotMissing     Code = "snapshot-missing"
	StateNotFound       Code = "state-not-found"
	StateUnmatched      Code = "state-unmatched"
	StateIncompatible   Code = "state-incompatible"
	StateDiskFailed     Code = "state-disk-failed"
	ParallelismTooLarge Code = "parallelism-too-large"
	ParallelismInvalid  Code = "parallelism-invalid"
	RescaleInProgress   Code = "rescale-in-progress"
	RescaleFailed       Code = "rescale-failed"
)

// Codes of streams.
const (
	StreamNotFound        Code = "stream-not-found"
	StreamExists          Code = "stream-exists"
	StreamDeleted         Code = "stream-deleted"
	StreamBusy            Code = "stream-busy"
	StreamInvalid         Code = "stream-invalid"
	StreamLimit           Code = "stream-limit"
	StreamNoHosts         Code = "stream-no-hosts"
	ShardNotFound         Code = "shard-not-found"
	ShardUnavailable      Code = "shard-unavailable"
	NotOwner              Code = "not-owner"
	RecordTooLarge        Code = "record-too-large"
	SequenceInvalid       Code = "sequence-invalid"
	TransactionIncomplete Code = "transaction-incomplete"
	ShardClosed           Code = "shard-closed"
	RecordsExpired        Code = "records-expired"
	ShardStoreFailed      Code = "shard-store-failed"
	ShardCorrupt          Code = "shard-corrupt"
)

// Definition is one row of the catalogue.
type Definition struct {
	Code   Code
	Status int
	Title  string
	// Remedy is shown when the raiser of the error names none.
	Remedy string
}

var byCode = func() map[Code]Definition {
	m := make(map[Code]Definition, len(catalogue))
	for _, d := range catalogue {
		if _, twice := m[d.Code]; twice {
			panic("api: code defined twice: " + string(d.Code))
		}
		m[d.Code] = d
	}
	return m
}()

// Lookup returns the definition of a code. A code that is not in the
// catalogue comes from another version of Millrace: it is shown as an
// internal error under its own code.
func Lookup(code Code) (Definition, bool) {
	d, ok := byCode[code]
	if !ok {
		d = byCode[Internal]
		d.Code = code
	}
	return d, ok
}

// Catalogue returns all definitions in order of their codes.
func Catalogue() []Definition {
	all := slices.Clone(catalogue)
	slices.SortFunc(all, func(a, b Definition) int { return strings.Compare(string(a.Code), string(b.Code)) })
	return all
}

const (
	statusBad         = http.StatusBadRequest
	statusMissing     = http.StatusNotFound
	statusConflict    = http.StatusConflict
	statusUnprocess   = http.StatusUnprocessableEntity
	statusTooLarge    = http.StatusRequestEntityTooLarge
	statusInternal    = http.StatusInternalServerError
	statusUnavailable = http.StatusServiceUnavailable
	statusTimeout     = http.StatusGatewayTimeout
	statusFull        = http.StatusInsufficientStorage
)
