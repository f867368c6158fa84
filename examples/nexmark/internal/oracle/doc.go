// Package oracle says what each query of Nexmark must give: a plain evaluator
// that holds all events in memory and looks at them again and again, in one
// goroutine. Of what the job is made of it shares the generator alone.
package oracle
