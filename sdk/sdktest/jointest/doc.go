// Package jointest has the tests of operators with two inputs and of joins, by hand
// and as whole jobs. They are apart from those of package sdk because every one of
// them instantiates an operator, which takes the compiler its time.
package jointest
