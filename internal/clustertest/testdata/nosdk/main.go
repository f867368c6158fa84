// Nosdk is a program that is no job: it says hello and ends, or, where its
// argument says so, stays.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("hello")
	if len(os.Args) > 1 && os.Args[1] == "stay" {
		// Nothing is ever written to a pipe that only this process holds.
		r, _, err := os.Pipe()
		if err == nil {
			_, _ = r.Read(make([]byte, 1))
		}
	}
}
