// Nexmark is the benchmark's job; see package nexmark.
package main

import (
	"github.com/millrace/millrace/examples/nexmark"
	"github.com/millrace/millrace/sdk"
)

func main() { sdk.Main(nexmark.Build) }
