package schema

import "strings"

const agedHead = "{At int64,Value "

// Aged is the schema of a value of state that expires: the time of its last
// use, in Unix milliseconds, is before it (docs/formats/run.md).
func Aged(value string) string { return agedHead + value + "}" }

// Unaged is the schema of the value that Aged was given; any other schema it
// returns as it is. Only state that says that it expires has aged values.
func Unaged(schema string) string {
	if inner, ok := strings.CutPrefix(schema, agedHead); ok {
		return strings.TrimSuffix(inner, "}")
	}
	return schema
}
