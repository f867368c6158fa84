package main

import (
	"os"
	"testing"

	"github.com/millrace/millrace/runtime/launch"
)

// selfIsMillrace makes this test binary the command: what it starts of itself is
// millrace, and what a task manager starts of it is the job.
const selfIsMillrace = "MILLRACE_TEST_BINARY_IS_MILLRACE"

func TestMain(m *testing.M) {
	if launch.Mode() != "" || os.Getenv(selfIsMillrace) != "" {
		main()
	}
	if err := os.Setenv(selfIsMillrace, "yes"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
