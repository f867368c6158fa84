// V1 is the first version of a job that is upgraded.
package main

import "github.com/millrace/millrace/internal/clustertest/testdata/accounts"

type account struct {
	Count int32
	Sum   int32
	Gone  string
}

func main() {
	accounts.Main(func(a *account, p accounts.Payment) (int64, int64) {
		a.Count, a.Sum, a.Gone = a.Count+1, a.Sum+int32(p.Cents), p.Number
		return int64(a.Count), int64(a.Sum)
	})
}
