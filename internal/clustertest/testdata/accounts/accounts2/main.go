// V2 renames and widens one field of V1, widens another, adds one and removes one.
package main

import "github.com/millrace/millrace/internal/clustertest/testdata/accounts"

type account struct {
	Largest  int64
	Sum      int64
	Payments int64 `millrace:",was=Count"`
}

func main() {
	accounts.Main(func(a *account, p accounts.Payment) (int64, int64) {
		a.Payments, a.Sum, a.Largest = a.Payments+1, a.Sum+p.Cents, max(a.Largest, p.Cents)
		return a.Payments, a.Sum
	})
}
