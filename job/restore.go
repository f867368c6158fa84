package job

import (
	"errors"
	"time"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter decides what an attempt is restored from: the newest
// checkpoint that the journal names, else the manifest that the job was
// submitted with, else nothing.

// restorePoint is a completed checkpoint with its manifest.
type restorePoint struct {
	key      string
	manifest *pb.Manifest
	// foreign: not of this job's own attempts.
	foreign bool
	// terminal: the job was to end with it.
	terminal bool
}

// full says that the first checkpoint after it must not share objects with
// it: a savepoint is the user's, and another job's objects are not ours.
func (r *restorePoint) full() bool { return r != nil && (r.foreign || r.manifest.GetSavepoint()) }

// reading is the chapter's own state.
type reading struct {
	wanted  []string // keys, the restore point last
	got     map[string]*pb.Manifest
	asked   map[Token]string
	bad     map[string]bool
	retryAt time.Time
}

const readRetry = time.Second

func (m *Master) beginReading() {
	m.reading = reading{got: map[string]*pb.Manifest{}, asked: map[Token]string{}, bad: map[string]bool{}}
	add := func(key string) {
		for _, k := range m.reading.wanted {
			if k == key {
				return
			}
		}
		m.reading.wanted = append(m.reading.wanted, key)
	}
	for _, done := range m.record.GetRetained() {
		add(done.GetManifest())
	}
	if key := m.restoreKey(); key != "" {
		add(key)
	}
	m.enter(phaseReading)
	m.readMissing()
}

// restoreKey is the manifest to restore, empty for an empty start.
func (m *Master) restoreKey() string {
	if l := m.record.GetLatest(); l != nil {
		return l.GetManifest()
	}
	return m.record.GetSubmitted().GetRestoreManifest()
}

func (m *Master) readMissing() {
	m.reading.retryAt = time.Time{}
	clear(m.reading.asked)
	for _, key := range m.reading.wanted {
		if m.reading.got[key] == nil && !m.reading.bad[key] {
			t := m.token()
			m.reading.asked[t] = key
			m.emit(ReadManifest{Token: t, Key: key})
		}
	}
}

func (m *Master) manifestRead(ev ManifestRead) {
	key, ok := m.reading.asked[ev.Token]
	if !ok || m.phase != phaseReading {
		return
	}
	delete(m.reading.asked, ev.Token)
	var unusable *Unusable
	switch {
	case ev.Err == nil:
		m.reading.got[key] = ev.Manifest
	case errors.As(ev.Err, &unusable) && key == m.restoreKey():
		// To go on without it would be to lose what it holds.
		m.fail(failure{err: &pb.Error{Code: unusable.Code, Message: ev.Err.Error()}, fatal: true})
	case errors.As(ev.Err, &unusable):
		m.reading.bad[key] = true
		m.note("retained checkpoint is unusable", "manifest", key, "err", ev.Err.Error())
	default:
		m.note("manifest could not be read", "manifest", key, "err", ev.Err.Error(), "retry", readRetry)
		m.reading.retryAt = m.now.Add(readRetry)
	}
}

func (m *Master) advanceReading() {
	r := &m.reading
	if len(r.asked) > 0 {
		return
	}
	if !r.retryAt.IsZero() {
		if !m.now.Before(r.retryAt) {
			m.readMissing()
		}
		return
	}
	if key := m.restoreKey(); key != "" {
		m.restore = &restorePoint{
			key: key, manifest: r.got[key],
			foreign:  m.record.GetLatest() == nil,
			terminal: m.record.GetLatest().GetTerminal(),
		}
	}
	if m.restore != nil && m.restore.foreign {
		if err := CheckRestore(m.graph, m.restore.manifest, m.record.GetSubmitted().GetAllowUnmatchedState()); err != nil {
			m.fail(failure{err: protoError(err), fatal: true})
			return
		}
	}
	m.lineageID = m.lineage()
	m.makeCoordinator()
	m.reading = reading{}
	switch {
	case m.stopping.record.GetHow() == howCancel:
		m.cancelNow()
	case m.finished():
		m.close(Finished, nil)
	default:
		m.requestSlots()
	}
}

// finished says that the job has taken its last checkpoint and no sink needs
// to commit it.
func (m *Master) finished() bool {
	return m.restore != nil && m.restore.terminal && len(m.roles.sinks) == 0
}

func (m *Master) makeCoordinator() {
	c := m.graph.GetConfig()
	ms := func(v int64) time.Duration { return time.Duration(v) * time.Millisecond }
	cfg := checkpoint.Config{
		Job: m.job, Lineage: m.lineageID, Graph: m.graph, Planned: m.record.GetSubmitted().GetGraph(),
		Interval: ms(c.GetCheckpointIntervalMs()), NoPeriod: c != nil && c.GetCheckpointIntervalMs() <= 0,
		Timeout: ms(c.GetCheckpointTimeoutMs()), Retained: int(c.GetRetainedCheckpoints()),
		Tolerated: int(c.GetTolerableCheckpointFailures()),
	}
	for _, done := range m.record.GetRetained() {
		if got := m.reading.got[done.GetManifest()]; got != nil {
			cfg.Kept = append(cfg.Kept, checkpoint.Kept{Done: done, Manifest: got})
		}
	}
	if m.restore != nil {
		cfg.NextID = checkpoint.ID(m.restore.manifest.GetCheckpointId()) + 1
	}
	m.coord = checkpoint.New(cfg)
}

// lineage is the id that transactions carry: the first job's of a chain of
// restores.
func (m *Master) lineage() string {
	if l := m.record.GetSubmitted().GetLineage(); l != "" {
		return l
	}
	if m.restore != nil && m.restore.manifest.GetLineage() != "" {
		return m.restore.manifest.GetLineage()
	}
	return m.job
}
