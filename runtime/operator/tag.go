package operator

// Tag names a side output and its type. Tags are values: two of one name and
// type are the same output.
type Tag[T any] struct {
	Name string
}

// Side is a tag without its type, to declare an operator's side outputs.
type Side interface {
	newSide(owner func() *Context) sideOutput
}

func (t Tag[T]) newSide(owner func() *Context) sideOutput {
	return &side[T]{name: t.Name, owner: owner}
}

// sideOutput is one side output of an operator instance.
type sideOutput interface {
	tag() string
	output() any
	open()
	finish() error
}

type side[T any] struct {
	emitter[T]
	name  string
	owner func() *Context
}

func (s *side[T]) tag() string   { return s.name }
func (s *side[T]) output() any   { return &s.out }
func (s *side[T]) open()         { s.emitter.ctx = s.owner() }
func (s *side[T]) finish() error { return s.flush() }

// sides are the side outputs of one operator instance: few, so they are found
// by going through them.
type sides []sideOutput

func newSides(declared []Side, owner func() *Context) sides {
	all := make(sides, 0, len(declared))
	for _, d := range declared {
		s := d.newSide(owner)
		if all.byTag(s.tag()) == nil {
			all = append(all, s)
		}
	}
	return all
}

func (ss sides) byTag(tag string) sideOutput {
	for _, s := range ss {
		if s.tag() == tag {
			return s
		}
	}
	return nil
}

func (ss sides) output(tag string) any {
	if s := ss.byTag(tag); s != nil {
		return s.output()
	}
	return nil
}

func (ss sides) open() {
	for _, s := range ss {
		s.open()
	}
}

func (ss sides) flush() error {
	for _, s := range ss {
		if err := s.finish(); err != nil {
			return err
		}
	}
	return nil
}
