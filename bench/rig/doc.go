// Package rig is what the measurements of whole processes share: a cluster of
// their own, a client of its REST API, and a report of figures.
package rig
