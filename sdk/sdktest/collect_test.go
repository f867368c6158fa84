package sdktest_test

import (
	"context"
	"testing"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
	"github.com/millrace/millrace/sdk/sdktest/sinktest"
)

func TestCollectKeepsItsPromises(t *testing.T) {
	sinktest.Run(t, func(*testing.T) sinktest.Target[int] {
		c := sdktest.Collect[int]()
		return sinktest.Target[int]{
			Sink:    func() sdk.Sink[int] { return c },
			Record:  func(n int) int { return n },
			Visible: func(context.Context) ([]int, error) { return c.Values(), nil },
		}
	}, sinktest.Options{Seeds: 200})
}
