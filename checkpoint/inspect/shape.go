package inspect

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace/millrace/checkpoint/schema"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// shape is how the table of a state is to be read.
type shape uint8

const (
	plain   shape = iota
	list          // keys are the stream's key and an index
	mapping       // keys are the stream's key and the map's
)

// shapeOf takes a list or map by its kind. A state that does not say what it is
// is a list or map where its keys can only be those of one.
func shapeOf(d *pb.StateDecl) shape {
	key, err := schema.Parse(d.GetKeySchema())
	if err != nil || key.Kind != schema.Struct || len(key.Fields) != 2 || key.Fields[0].Name != "Key" {
		return plain
	}
	unknown := d.GetKind() == "" || d.GetKind() == "table"
	switch key.Fields[1].Name {
	case "Index":
		if d.GetKind() == "list" || unknown {
			return list
		}
	case "Of":
		if d.GetKind() == "map" || unknown {
			return mapping
		}
	}
	return plain
}

// decoder reads the entries of one state.
type decoder struct {
	decl   *pb.StateDecl
	shape  shape
	key    *schema.Node // as stored
	stream *schema.Node // the stream's key: key, or its first field
	value  *schema.Node
	hasher *schema.Hasher // of stream; nil where bytes do not tell
}

func newDecoder(d *pb.StateDecl) (*decoder, error) {
	dec := &decoder{decl: d, shape: shapeOf(d)}
	var err error
	if dec.key, err = schema.Parse(d.GetKeySchema()); err != nil {
		return nil, fmt.Errorf("key of state %q: %w", d.GetName(), err)
	}
	if dec.value, err = schema.Parse(d.GetValueSchema()); err != nil {
		return nil, fmt.Errorf("value of state %q: %w", d.GetName(), err)
	}
	dec.stream = dec.key
	if dec.shape != plain {
		dec.stream = dec.key.Fields[0].Type
	}
	if dec.stream.Hashable() {
		dec.hasher = schema.NewHasher(dec.stream)
	}
	return dec, nil
}

// check reads a key, and its value unless it is deleted, without printing.
func (d *decoder) check(key, value []byte, deleted bool, group, groups int) error {
	rest, err := d.key.Pass(key)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow it", len(rest))
	}
	if err != nil {
		return fmt.Errorf("key %s is no %s: %w", printable(key), d.decl.GetKeySchema(), err)
	}
	if d.hasher != nil {
		hash, err := d.hasher.Hash(key)
		if err != nil {
			return fmt.Errorf("key %s: %w", printable(key), err)
		}
		if g := schema.GroupOf(hash, groups); g != group {
			return fmt.Errorf("key %s lies in key group %d, its hash says %d of %d", printable(key), group, g, groups)
		}
	}
	if deleted {
		return nil
	}
	rest, err = d.value.Pass(value)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow it", len(rest))
	}
	if err != nil {
		return fmt.Errorf("value of key %s is no %s: %w", printable(key), d.decl.GetValueSchema(), err)
	}
	return nil
}

// row fills a row with what an entry says. Its buffers are used again.
func (d *decoder) row(r *Row, ns int64, key, value []byte) error {
	r.State, r.Kind, r.Namespace, r.Time = d.decl.GetName(), d.decl.GetKind(), nil, ""
	r.Key, r.At, r.Value = r.Key[:0], r.At[:0], r.Value[:0]
	var err error
	rest := key
	if r.Key, rest, err = d.stream.AppendJSON(r.Key, rest); err != nil {
		return fmt.Errorf("key %s is no %s: %w", printable(key), d.decl.GetKeySchema(), err)
	}
	if d.shape != plain {
		if r.At, rest, err = d.key.Fields[1].Type.AppendJSON(r.At, rest); err != nil {
			return fmt.Errorf("key %s is no %s: %w", printable(key), d.decl.GetKeySchema(), err)
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("key %s is no %s: %d bytes follow it", printable(key), d.decl.GetKeySchema(), len(rest))
	}
	if d.decl.GetNamespaceSchema() != "" {
		r.Namespace = &ns
		if k := d.decl.GetKind(); k == "window" || k == "join" || d.shape == list {
			r.Time = clock(ns)
		}
	}
	if r.Value, rest, err = d.value.AppendJSON(r.Value, value); err != nil {
		return fmt.Errorf("value of key %s is no %s: %w", r.Key, d.decl.GetValueSchema(), err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("value of key %s is no %s: %d bytes follow it", r.Key, d.decl.GetValueSchema(), len(rest))
	}
	if d.decl.GetKind() == "timer" && d.decl.GetValueSchema() == "[]int64" {
		r.Value = timesOf(r.Value)
	}
	return nil
}

// clock is a time in milliseconds as text.
func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }

// timesOf makes a JSON list of milliseconds one of times.
func timesOf(list []byte) []byte {
	out := []byte{'['}
	for i, field := range bytes.FieldsFunc(list, func(r rune) bool { return r == '[' || r == ',' || r == ']' }) {
		ms, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return list
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, clock(ms)...)
		out = append(out, '"')
	}
	return append(out, ']')
}
