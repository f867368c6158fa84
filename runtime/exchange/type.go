package exchange

import (
	"fmt"
	"reflect"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/operator"
)

// Type is the erased face of a record type T: what a graph, which knows no
// types, needs to wire operators of T together. All type assertions happen
// here, at wiring; a wrong one is an error that names both operators.
type Type interface {
	// Name is T as Go writes it.
	Name() string
	// Schema is the canonical text of T's codec.
	Schema() string
	// Check says whether the output and the input both take T.
	Check(from Out, to In) error
	// CheckKey says whether key is a func(*batch.Batch[T]).
	CheckKey(from, to string, key any) error
	// CheckPartition says whether partition is a func(T, int) int.
	CheckPartition(from, to string, partition any) error
	// Connect makes the input a direct receiver of the output: neighbours
	// in a chain.
	Connect(from Out, to In) error
	// NewGate makes the receiving end of an input of a subtask.
	NewGate(n *Network, c GateConfig) (Gate, error)
	// NewWriter makes the sending end of an edge at a subtask and attaches
	// it to the output.
	NewWriter(n *Network, c WriterConfig) (Writer, error)
}

// Out is an output of an operator instance. Name is the operator's, for
// messages.
type Out struct {
	Operator operator.Operator
	Name     string
	Tag      string
}

// In is an input of an operator instance.
type In struct {
	Operator operator.Operator
	Name     string
	Port     int
}

// TypeOf derives the Type of T. The error names the part of T that cannot
// travel.
func TypeOf[T any]() (Type, error) {
	c, err := codec.Derive[T]()
	if err != nil {
		return nil, fmt.Errorf("record type %s: %w", reflect.TypeFor[T](), err)
	}
	return typed[T]{codec: c}, nil
}

func (typed[T]) Name() string { return reflect.TypeFor[T]().String() }

func (t typed[T]) Schema() string { return t.codec.Schema() }

func (t typed[T]) Check(from Out, to In) error {
	if _, err := outputOf[T](from, to.Name); err != nil {
		return err
	}
	_, err := stageOf[T](from.Name, to)
	return err
}

func (t typed[T]) CheckKey(from, to string, key any) error {
	_, err := keyOf[T](from, to, key)
	return err
}

func (t typed[T]) CheckPartition(from, to string, partition any) error {
	_, err := partitionOf[T](from, to, partition)
	return err
}

func (t typed[T]) Connect(from Out, to In) error {
	out, err := outputOf[T](from, to.Name)
	if err != nil {
		return err
	}
	stage, err := stageOf[T](from.Name, to)
	if err != nil {
		return err
	}
	out.Attach(stage)
	return nil
}

func outputOf[T any](from Out, to string) (*operator.Output[T], error) {
	switch out := from.Operator.Output(from.Tag).(type) {
	case *operator.Output[T]:
		if out != nil {
			return out, nil
		}
	case nil:
	default:
		return nil, fmt.Errorf("connect %s to %s: output %s of %s is a %T, the edge carries %s: connect operators of the same record type",
			from.Name, to, outputName(from.Tag), from.Name, out, reflect.TypeFor[T]())
	}
	return nil, fmt.Errorf("connect %s to %s: %s has no output %s", from.Name, to, from.Name, outputName(from.Tag))
}

func stageOf[T any](from string, to In) (operator.Stage[T], error) {
	switch stage := to.Operator.Input(to.Port).(type) {
	case operator.Stage[T]:
		return stage, nil
	case nil:
		return nil, fmt.Errorf("connect %s to %s: %s has no input %d", from, to.Name, to.Name, to.Port)
	default:
		return nil, fmt.Errorf("connect %s to %s: input %d of %s is a %T, which does not take %s: connect operators of the same record type",
			from, to.Name, to.Port, to.Name, stage, reflect.TypeFor[T]())
	}
}

func keyOf[T any](from, to string, key any) (func(*batch.Batch[T]), error) {
	f, ok := key.(func(*batch.Batch[T]))
	if !ok || f == nil {
		return nil, fmt.Errorf("connect %s to %s: the key function is a %T, a keyed edge of %s needs a func(*batch.Batch[%[4]s])",
			from, to, key, reflect.TypeFor[T]())
	}
	return f, nil
}

func partitionOf[T any](from, to string, partition any) (func(T, int) int, error) {
	f, ok := partition.(func(T, int) int)
	if !ok || f == nil {
		return nil, fmt.Errorf("connect %s to %s: the partitioner is a %T, a partitioned edge of %s needs a func(%[4]s, int) int",
			from, to, partition, reflect.TypeFor[T]())
	}
	return f, nil
}

func outputName(tag string) string {
	if tag == "" {
		return "(main)"
	}
	return fmt.Sprintf("%q", tag)
}
