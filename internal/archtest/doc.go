// Package archtest holds the house's floor plan as a test: which room may
// import which, and what no room may import. It has no code besides the test;
// ARCHITECTURE.md draws the same table for people.
package archtest
