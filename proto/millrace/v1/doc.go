// Package pb is the generated Go form of the messages in this folder.
//
// Its messages are what crosses a process boundary or lies in a file; see
// docs/protocols.md for who sends which, when, and what the answer means.
package pb
