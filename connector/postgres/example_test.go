package postgres_test

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/connector/postgres"
	"github.com/millrace/millrace/sdk"
)

// Reading is a row of a table
//
//	CREATE TABLE readings (sensor text, at timestamptz, celsius double precision, PRIMARY KEY (sensor, at))
type Reading struct {
	Sensor  string    `db:"sensor"`
	At      time.Time `db:"at"`
	Celsius *float64  `db:"celsius"` // nil is NULL
}

// A job whose results replace rows with the same key.
func ExampleSink() {
	build := func(env *sdk.Env) error {
		env.Name("readings")
		database := env.String("database", "postgres://jobs@localhost/plant", "where readings go; the password comes from PGPASSWORD")
		warm := 21.5
		sdk.From(env, sdk.Slice(Reading{"cellar", time.Unix(0, 0), &warm})).
			To(postgres.Sink[Reading](database, "readings").Upsert("sensor", "at"))
		return nil
	}
	_, err := sdk.Plan(build, nil, true)
	fmt.Println("refused:", err)
	// Output: refused: <nil>
}
