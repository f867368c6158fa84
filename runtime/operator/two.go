package operator

import "github.com/millrace/millrace/runtime/state"

// An operator with two inputs takes those of its left side at port 0 and those of
// its right side at port 1. Its task calls it with a batch of either, in no order
// between the two; watermarks and barriers are those of both together.

// KeyedCoFunction is the user code of one subtask of a keyed operator with two
// inputs. Left and Right must be set.
type KeyedCoFunction[K comparable, L, R, U any] struct {
	Left  func(c *Call, v L, emit func(U)) error
	Right func(c *Call, v R, emit func(U)) error
	KeyedTimers[K, U]
}

// NewKeyedCoProcess is NewKeyedProcess for two inputs that are keyed alike:
// state and timers are those of a key, whichever side its record comes from.
func NewKeyedCoProcess[K comparable, L, R, U any](
	left func(L) K, right func(R) K,
	open func(ctx *Context, cur *state.Current[K]) (KeyedCoFunction[K, L, R, U], error),
	declared ...Side,
) Operator {
	p := &keyedCoProcess[K, L, R, U]{open: open}
	p.left = keyedPort[K, L, U]{calls: &p.keyedCalls, key: left}
	p.right = keyedPort[K, R, U]{calls: &p.keyedCalls, key: right}
	p.init(declared)
	return p
}

type keyedCoProcess[K comparable, L, R, U any] struct {
	keyedCalls[K, U]
	open  func(*Context, *state.Current[K]) (KeyedCoFunction[K, L, R, U], error)
	left  keyedPort[K, L, U]
	right keyedPort[K, R, U]
}

func (p *keyedCoProcess[K, L, R, U]) Input(i int) any { return Either[L, R](i, &p.left, &p.right) }

func (p *keyedCoProcess[K, L, R, U]) Open(ctx *Context) error {
	p.begin(ctx)
	f, err := p.open(ctx, &p.cur)
	p.left.each, p.right.each, p.timers = f.Left, f.Right, f.KeyedTimers
	return err
}

// Either returns the input of a port, for Operator.Input.
func Either[L, R any](port int, left Stage[L], right Stage[R]) any {
	switch port {
	case 0:
		return left
	case 1:
		return right
	}
	return nil
}

// NewCoProcess is NewProcess for two inputs.
func NewCoProcess[L, R, U any](
	left func(c *Call, v L, emit func(U)) error,
	right func(c *Call, v R, emit func(U)) error,
	declared ...Side,
) Operator {
	p := &coProcess[L, R, U]{}
	p.left = port[L, U]{&p.calls, left}
	p.right = port[R, U]{&p.calls, right}
	p.init(declared)
	return p
}

type coProcess[L, R, U any] struct {
	calls[U]
	left  port[L, U]
	right port[R, U]
}

func (p *coProcess[L, R, U]) Input(i int) any { return Either[L, R](i, &p.left, &p.right) }
