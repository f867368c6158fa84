// Package jointest has the tests of operators with two inputs, of joins and of
// update streams, by hand and as whole jobs. They are apart from those of package
// sdk because every one of them instantiates an operator, which takes the compiler
// its time.
package jointest
