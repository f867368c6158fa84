package rest

import "net/http"

// route is one operation of the specification.
type route struct {
	method, path string
	handle       func(*http.Request) (any, error)
	// upload allows a body of the size of a binary.
	upload bool
}

// routes lists every operation. A test compares it with api/openapi.yaml.
func (s *Server) routes() []route {
	get := func(path string, h func(*http.Request) (any, error)) route {
		return route{method: http.MethodGet, path: path, handle: h}
	}
	post := func(path string, h func(*http.Request) (any, error)) route {
		return route{method: http.MethodPost, path: path, handle: h}
	}
	const job = "/jobs/{jobid}"
	const vertex = job + "/vertices/{vertexid}"
	return []route{
		get("/overview", s.overview),
		get("/config", s.config),
		get("/streams", s.streams),
		get("/savepoints", s.savepoints),
		get("/savepoints/details", s.savepointDetails),
		get("/savepoints/state", s.savepointState),
		post("/savepoint-verification", s.verifySavepoint),
		get("/savepoint-verification/{triggerid}", s.verificationStatus),

		get("/jobs", s.jobIDs),
		get("/jobs/overview", s.jobsOverview),
		get(job, s.jobDetails),
		{method: http.MethodPatch, path: job, handle: s.cancelJob},
		get(job+"/plan", s.jobPlan),
		get(job+"/status", s.jobStatus),
		get(job+"/config", s.jobConfig),
		get(job+"/exceptions", s.jobExceptions),
		get(job+"/execution-result", s.executionResult),
		get(job+"/recovery", s.jobRecovery),
		get(job+"/metrics", s.jobMetrics),

		get(job+"/checkpoints", s.checkpoints),
		post(job+"/checkpoints", s.triggerCheckpoint),
		get(job+"/checkpoints/{triggerid}", s.checkpointStatus),
		get(job+"/checkpoints/config", s.checkpointConfig),
		get(job+"/checkpoints/details/{checkpointid}", s.checkpointDetails),
		get(job+"/checkpoints/details/{checkpointid}/subtasks/{vertexid}", s.checkpointSubtasks),
		post(job+"/savepoints", s.triggerSavepoint),
		get(job+"/savepoints/{triggerid}", s.savepointStatus),
		post(job+"/stop", s.stopJob),
		post("/savepoint-disposal", s.disposeSavepoint),
		get("/savepoint-disposal/{triggerid}", s.disposalStatus),

		get(job+"/resource-requirements", s.requirements),
		{method: http.MethodPut, path: job + "/resource-requirements", handle: s.setRequirements},
		{method: http.MethodPatch, path: job + "/rescaling", handle: s.startRescale},
		get(job+"/rescaling/{triggerid}", s.rescaleStatus),

		get(vertex, s.vertex),
		get(vertex+"/subtasktimes", s.subtaskTimes),
		get(vertex+"/taskmanagers", s.vertexTaskManagers),
		get(vertex+"/watermarks", s.watermarks),
		get(vertex+"/backpressure", s.backpressure),
		get(vertex+"/metrics", s.vertexMetrics),
		get(vertex+"/subtasks/metrics", s.subtasksMetrics),
		get(vertex+"/subtasks/{subtaskindex}/metrics", s.subtaskMetrics),

		get("/jobmanager/config", s.managerConfig),
		get("/jobmanager/metrics", s.managerMetrics),
		get("/jobmanager/environment", s.managerEnvironment),
		get("/jobmanager/logs", s.managerLogs),
		get("/jobmanager/logs/{file}", s.managerLogFile),
		get("/jobmanager/log", s.managerLog),

		get("/taskmanagers", s.taskManagers),
		get("/taskmanagers/{taskmanagerid}", s.taskManager),
		get("/taskmanagers/{taskmanagerid}/logs", s.taskManagerLogs),
		get("/taskmanagers/{taskmanagerid}/logs/{file}", s.taskManagerLogFile),
		get("/taskmanagers/{taskmanagerid}/log", s.taskManagerLog),
		get("/taskmanagers/{taskmanagerid}/stdout", s.taskManagerStdout),
		get("/taskmanagers/{taskmanagerid}/metrics", s.taskManagerMetrics),

		{method: http.MethodPost, path: "/jars/upload", handle: s.uploadJar, upload: true},
		get("/jars", s.jars),
		{method: http.MethodDelete, path: "/jars/{jarid}", handle: s.deleteJar},
		get("/jars/{jarid}/plan", s.planJar),
		post("/jars/{jarid}/plan", s.planJar),
		post("/jars/{jarid}/check", s.checkJar),
		post("/jars/{jarid}/run", s.runJar),
	}
}
