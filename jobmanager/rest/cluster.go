package rest

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/job"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func (s *Server) overview(r *http.Request) (any, error) {
	managers, total, free := s.d.Slots()
	counts := map[string]int{}
	for _, j := range s.d.Jobs() {
		st, err := j.Status(r.Context())
		if err != nil {
			return nil, err
		}
		switch st.State {
		case job.Finished:
			counts["finished"]++
		case job.Canceled:
			counts["cancelled"]++
		case job.Failed:
			counts["failed"]++
		default:
			counts["running"]++
		}
	}
	return obj{
		"taskmanagers": len(managers), "slots-total": total, "slots-available": free,
		"jobs-running": counts["running"], "jobs-finished": counts["finished"],
		"jobs-cancelled": counts["cancelled"], "jobs-failed": counts["failed"],
		"flink-version": s.cfg.Version, "flink-commit": s.cfg.Commit,
		"cluster-id": s.d.Journal().ClusterID(), "leader-epoch": s.d.Journal().Epoch(),
	}, nil
}

func (s *Server) config(*http.Request) (any, error) {
	zone, offset := s.d.Now().Zone()
	return obj{
		"refresh-interval": 1000, "timezone-name": zone, "timezone-offset": offset * 1000,
		"flink-version": s.cfg.Version, "flink-revision": s.cfg.Commit,
		"features": obj{"web-submit": true, "web-cancel": true, "web-rescale": false, "web-history": false},
	}, nil
}

// streams is the shard map.
func (s *Server) streams(*http.Request) (any, error) {
	c := s.d.Catalog()
	address := map[string]string{}
	for _, h := range c.GetHosts() {
		address[h.GetId()] = h.GetAddress()
	}
	list := []obj{}
	for _, st := range c.GetStreams() {
		shards := []obj{}
		for _, sh := range st.GetShards() {
			o := obj{
				"shard": sh.GetIndex(), "hash-first": hex.EncodeToString(sh.GetHashFirst()), "hash-last": hex.EncodeToString(sh.GetHashLast()),
				"owner": sh.GetOwner(), "owner-epoch": sh.GetOwnerEpoch(), "closed": sh.GetClosed(),
				"available": address[sh.GetOwner()] != "",
			}
			if a := address[sh.GetOwner()]; a != "" {
				o["address"] = a
			}
			shards = append(shards, o)
		}
		list = append(list, obj{
			"name": st.GetName(), "arn": st.GetArn(), "status": streamStatus[st.GetStatus()], "generation": st.GetGeneration(),
			"created": st.GetCreatedMs(), "retention-hours": st.GetRetentionHours(), "durability": st.GetDurability(),
			"tags": nonNil(st.GetTags()), "shards": shards,
		})
	}
	return obj{"version": c.GetVersion(), "streams": list}, nil
}

var streamStatus = map[pb.Stream_Status]string{
	pb.Stream_STATUS_CREATING: "CREATING", pb.Stream_STATUS_ACTIVE: "ACTIVE",
	pb.Stream_STATUS_DELETING: "DELETING", pb.Stream_STATUS_UPDATING: "UPDATING",
}

// savepoints are those that the journal knows.
func (s *Server) savepoints(*http.Request) (any, error) {
	list := []obj{}
	s.d.Journal().View(func(fold *pb.JournalSnapshot) {
		for _, c := range fold.GetSavepoints() {
			list = append(list, obj{"job-id": c.GetJobId(), "checkpoint-id": c.GetCheckpointId(),
				"path": checkpoint.PathOf(c.GetManifest()), "completed": c.GetCompletedMs(), "terminal": c.GetTerminal(), "drained": c.GetDrained()})
		}
	})
	return obj{"savepoints": list}, nil
}

func (s *Server) managerConfig(*http.Request) (any, error) {
	list := []obj{}
	for _, k := range slices.Sorted(maps.Keys(s.cfg.Settings)) {
		list = append(list, obj{"key": k, "value": s.cfg.Settings[k]})
	}
	return list, nil
}

func (s *Server) managerEnvironment(*http.Request) (any, error) {
	return obj{"jvm": obj{"version": runtime.Version(), "arch": runtime.GOOS + "/" + runtime.GOARCH, "options": []string{}}, "classpath": []string{}}, nil
}

func (s *Server) managerMetrics(r *http.Request) (any, error) {
	managers, total, free := s.d.Slots()
	running := 0
	for _, j := range s.d.Jobs() {
		st, err := j.Status(r.Context())
		if err != nil {
			return nil, err
		}
		if !st.State.Terminal() {
			running++
		}
	}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}, {Name: "/memory/classes/total:bytes"}}
	metrics.Read(samples)
	return metricList(r, []Figure{
		{"numRegisteredTaskManagers", float64(len(managers))},
		{"taskSlotsTotal", float64(total)}, {"taskSlotsAvailable", float64(free)},
		{"numRunningJobs", float64(running)},
		{"uptime", float64(s.d.Now().Sub(s.started).Milliseconds())},
		{"Status.Go.Memory.Heap.Used", float64(samples[0].Value.Uint64())},
		{"Status.Go.Memory.Total", float64(samples[2].Value.Uint64())},
		{"Status.Go.Goroutines", float64(samples[1].Value.Uint64())},
	}), nil
}

// logs opens the folder of logs; nothing outside of it can be reached.
func (s *Server) logs() (*os.Root, error) {
	if s.cfg.LogDir == "" {
		return nil, api.Errorf(api.LogNotFound, "the job manager writes no log files")
	}
	root, err := os.OpenRoot(s.cfg.LogDir)
	if err != nil {
		return nil, api.Errorf(api.LogNotFound, "log folder: %w", err)
	}
	return root, nil
}

func (s *Server) managerLogs(*http.Request) (any, error) {
	list := []obj{}
	if s.cfg.LogDir == "" {
		return obj{"logs": list}, nil
	}
	root, err := s.logs()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, api.Errorf(api.LogNotFound, "list logs: %w", err)
	}
	for _, e := range entries {
		i, err := e.Info()
		if err != nil || !i.Mode().IsRegular() {
			continue
		}
		list = append(list, obj{"name": i.Name(), "size": i.Size(), "mtime": i.ModTime().UnixMilli()})
	}
	return obj{"logs": list}, nil
}

func (s *Server) managerLogFile(r *http.Request) (any, error) {
	return s.managerFile(r.PathValue("file"))
}

func (s *Server) managerLog(*http.Request) (any, error) { return s.managerFile("jobmanager.log") }

func (s *Server) managerFile(name string) (any, error) {
	root, err := s.logs()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.LogNotFound, "the job manager has no log %q", name)
	}
	if err != nil {
		return nil, api.Errorf(api.LogNotFound, "log %q: %w", name, err)
	}
	i, err := f.Stat()
	if err != nil || !i.Mode().IsRegular() {
		_ = f.Close()
		return nil, api.Errorf(api.LogNotFound, "log %q is no file", name)
	}
	return text{struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, i.Size()), f}}, nil
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// ms is a time in Unix milliseconds, -1 for one that has not come.
func ms(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}
