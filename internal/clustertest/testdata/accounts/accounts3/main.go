// V3 makes a text of a number: no version can go on with that.
package main

import (
	"strconv"

	"github.com/millrace/millrace/internal/clustertest/testdata/accounts"
)

type account struct {
	Count int64
	Sum   string
}

func main() {
	accounts.Main(func(a *account, p accounts.Payment) (int64, int64) {
		sum, _ := strconv.ParseInt(a.Sum, 10, 64)
		a.Count, a.Sum = a.Count+1, strconv.FormatInt(sum+p.Cents, 10)
		return a.Count, sum + p.Cents
	})
}
