package jobmanager

// ID names this run of the job manager.
func (m *JobManager) ID() string { return m.cfg.ID }

// ClusterID is the id of the cluster in the bucket, once ready.
func (m *JobManager) ClusterID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.cluster
}

// Epoch is the epoch in which this job manager leads, once ready. Among several
// that say they lead, the highest epoch is right.
func (m *JobManager) Epoch() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.epoch
}
