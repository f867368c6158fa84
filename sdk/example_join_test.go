package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/sdk"
)

// Sale is what a user bought.
type Sale struct {
	User  string
	Cents int64
	At    time.Time
}

var sales = []Sale{{"ann", 1200, at("10:30")}, {"ann", 300, at("11:20")}, {"bob", 250, at("12:30")}}

func soldAt(s Sale) time.Time { return s.At }
func buyer(s Sale) string     { return s.User }

// What each visit led to within the next half hour. A visit without a sale comes
// out once event time has passed all that could still have matched.
func ExampleKeyedStream_Join() {
	run(func(env *sdk.Env) error {
		env.Name("conversions")
		bought := sdk.From(env, sdk.Slice(sales...)).
			WithTimestamps(sdk.Monotonous(soldAt)).Named("sales").
			KeyBy(buyer)
		sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Hour, visitedAt)).
			KeyBy(visitor).
			Join(bought).Between(0, 30*time.Minute).
			Left("conversions", func(v Visit, s *Sale) string {
				visit := fmt.Sprint(v.At.Format("15:04"), " ", v.User)
				if s == nil {
					return visit + ": nothing"
				}
				return fmt.Sprint(visit, ": ", s.Cents)
			}).
			To(printed[string]())
		return nil
	})
	// Unordered output:
	// 10:00 ann: 1200
	// 10:05 bob: nothing
	// 10:20 ann: 1200
	// 10:50 bob: nothing
	// 11:10 ann: 300
	// 13:00 eve: nothing
}

// Each sale at the discount that its buyer had at that time.
func ExampleKeyedStream_JoinVersions() {
	type discount struct {
		User    string
		Percent int64
		From    time.Time
	}
	run(func(env *sdk.Env) error {
		env.Name("discounts")
		discounts := sdk.From(env, sdk.Slice(discount{"ann", 10, at("09:00")}, discount{"ann", 50, at("11:00")})).
			WithTimestamps(sdk.Monotonous(func(d discount) time.Time { return d.From })).Named("terms").
			KeyBy(func(d discount) string { return d.User })
		sdk.From(env, sdk.Slice(sales...)).
			WithTimestamps(sdk.Monotonous(soldAt)).
			KeyBy(buyer).
			JoinVersions(discounts).
			Left("discounts", func(s Sale, d *discount) string {
				if d == nil {
					return fmt.Sprint(s.User, " ", s.Cents)
				}
				return fmt.Sprint(s.User, " ", s.Cents*(100-d.Percent)/100)
			}).
			To(printed[string]())
		return nil
	})
	// Output:
	// ann 1080
	// ann 150
	// bob 250
}

// A table in memory says where users are from.
func ExampleDataStream_Lookup() {
	countries := map[string]string{"ann": "NO", "bob": "PT"}
	run(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice("ann", "eve", "bob")).
			Lookup(sdk.MemoryTable(countries), func(user string) string { return user }).
			Inner(func(user, country string) string { return user + " " + country }).
			To(printed[string]())
		return nil
	})
	// Output:
	// ann NO
	// bob PT
}

// Many calls run at a time, each tried twice; results leave in the order of the
// records. What fails in the end goes to a side output instead of failing the job.
func ExampleDataStream_AsyncMap() {
	failed := sdk.NewTag[string]("failed")
	country := func(_ context.Context, user string) (string, error) {
		if user == "eve" {
			return "", errors.New("no such user")
		}
		return user + " NO", nil
	}
	run(func(env *sdk.Env) error {
		env.Name("countries")
		found := sdk.From(env, sdk.Slice("ann", "eve", "bob")).
			AsyncMap("countries", country, sdk.AsyncRetry(2, time.Millisecond, time.Second),
				sdk.AsyncFailed(failed, func(user string, err error) string { return fmt.Sprint(user, ": ", err) }))
		found.To(printed[string]())
		found.Side(failed).To(printed[string]()).Named("print failures")
		return nil
	})
	// Unordered output:
	// ann NO
	// bob NO
	// eve: no such user
}

// The best customer: how much each has spent, of which the greatest is kept. A
// sum that changes takes the one before back.
func ExampleUpdates() {
	type spent struct {
		User  string
		Cents int64
	}
	run(func(env *sdk.Env) error {
		env.Name("best")
		env.Batch() // a stream would show each change on the way
		sdk.From(env, sdk.Slice(sales...)).
			KeyBy(buyer).AsUpdates().
			Aggregate("spent", sdk.Sum(func(s Sale) int64 { return s.Cents }), func(user string, cents int64) spent { return spent{user, cents} }).
			KeyBy(func(spent) string { return "all" }).
			TopN("best", 1, func(a, b spent) bool { return a.Cents > b.Cents }).
			To(printed[spent]())
		return nil
	})
	// Output:
	// {ann 1500}
}

// A page counts as new again when nobody has seen it for an hour.
func ExampleTTL() {
	run(func(env *sdk.Env) error {
		env.Name("new pages")
		sdk.From(env, sdk.Slice(visits...)).
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Hour, visitedAt)).
			KeyBy(func(v Visit) string { return v.Page }).
			Process("new pages", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, Visit, string] {
				seen := op.Value[bool]("seen", sdk.TTL(time.Hour))
				return sdk.KeyedFn[string, Visit, string]{Each: func(c *sdk.KeyedContext[string, string], v Visit) error {
					if !seen.Get() {
						c.Emit(fmt.Sprint(c.Time().Format("15:04"), " ", v.Page))
					}
					seen.Set(true)
					return nil
				}}
			}).
			To(printed[string]())
		return nil
	})
	// Output:
	// 10:00 /
	// 10:20 /cart
	// 11:10 /
	// 13:00 /
}
