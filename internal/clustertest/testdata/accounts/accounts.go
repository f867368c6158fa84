// Package accounts is a job in versions: each keeps an account per customer, in a
// type of its own, and writes the balance after every payment, with the sum of the
// numbers of all payments so far, which it reads again. What they write is the same.
package accounts

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/sdk"
)

// Payment is a line "number,customer,cents".
type Payment struct {
	Number, Customer string
	Cents            int64
}

// Main runs a version that keeps A: book takes a payment into an account and says
// how many payments it has seen and their sum.
func Main[A any](book func(a *A, p Payment) (payments, cents int64)) {
	sdk.Main(func(env *sdk.Env) error {
		env.Name(env.String("name", "accounts", "name of the job"))
		env.Parallelism(1)
		env.Restart(sdk.RestartAfter(10*time.Millisecond, 2))
		payments := sdk.From(env, shards.Source("payments", sdk.Lines())).Named("payments").
			TryMap(parse).Named("parse")
		payments.KeyBy(func(p Payment) string { return p.Customer }).
			Process("book", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, Payment, string] {
				account := op.Value[A]("account")
				numbers := op.List[string]("numbers")
				return sdk.KeyedFn[string, Payment, string]{Each: func(c *sdk.KeyedContext[string, string], p Payment) error {
					numbers.Append(p.Number)
					all := int64(0)
					for text := range numbers.All() {
						n, err := strconv.ParseInt(text, 10, 64)
						if err != nil {
							return fmt.Errorf("number of a payment of %s: %w", p.Customer, err)
						}
						all += n
					}
					account.Update(func(a *A) {
						n, cents := book(a, p)
						c.Emit(fmt.Sprintf("%s,%s,%d,%d,%d,%d", p.Number, p.Customer, n, cents, numbers.Len(), all))
					})
					return nil
				}}
			}).
			To(shards.Sink("balances", sdk.Lines(), func(line string) string { return strings.Split(line, ",")[1] })).Named("balances")
		return nil
	})
}

func parse(line string) (Payment, error) {
	f := strings.Split(line, ",")
	if len(f) != 3 {
		return Payment{}, fmt.Errorf("payment %q has %d fields, want 3", line, len(f))
	}
	cents, err := strconv.ParseInt(f[2], 10, 64)
	return Payment{f[0], f[1], cents}, err
}
