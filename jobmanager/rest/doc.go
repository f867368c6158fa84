// Package rest serves the REST interface of api/openapi.yaml: the paths and
// shapes of Flink's monitoring API over package dispatch, under /v1 and
// without prefix.
//
// No figure is a constant. What is not measured is left out of an answer, so
// that a reader can tell "unknown" from zero. Ids are 32 lower-case hex
// characters; upper case is taken too. Every error has the body of api.Body.
//
// Requests that take long (savepoints, checkpoints, stop, disposal, verification) are
// answered with 202 and an id to poll; a client may choose that id, and asking
// again with it starts nothing new. Results are kept for five minutes.
//
// Safety: the Host header must be an IP address, localhost or a configured name
// (a page of another site cannot reach the server by rebinding its own name);
// browsers' cross-origin writes are refused; bodies are bounded; a bearer token
// is required where one is configured; files are served from below one folder
// only.
//
// Handler may be called from any goroutine. The requests that are polled run in
// goroutines of the server, which Close ends and waits for. It keeps no state
// but their results.
package rest
