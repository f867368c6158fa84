package inspect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/inflight"
	"github.com/millrace/millrace/checkpoint/schema"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter keeps account of how much a verification can say: bytes are always
// those that were written, but what they mean only the job's binary knows in some
// places.

// Checked says how far something could be checked, besides its checksum.
type Checked struct {
	Operator string `json:"operator"`
	// What is the name of a state, or the kind of entries.
	What  string `json:"what"`
	Kind  string `json:"kind"` // state or entry
	Count uint64 `json:"count"`
	How   How    `json:"how"`
	// Opaque are the types that were not decoded.
	Opaque []string `json:"opaque,omitempty"`
}

// How far.
type How string

// From the deepest check to none.
const (
	// Decoded: every value, to its last byte, by its schema.
	Decoded How = "decoded"
	// Framed: as Decoded, but for values of some types: of these that their length
	// is right and, of protobuf messages, that they are wire format.
	Framed How = "framed"
	// Checksum: nothing else.
	Checksum How = "checksum"
)

// account is what was checked, by operator, kind and name.
type account map[[3]string]*Checked

func (a account) add(operator, kind, what string, n uint64, how How, opaque []string) {
	id := [3]string{operator, kind, what}
	if a[id] == nil {
		a[id] = &Checked{Operator: operator, What: what, Kind: kind, How: how, Opaque: opaque}
	}
	a[id].Count += n
}

func (a account) list() []Checked {
	all := []Checked{}
	for _, c := range a {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Checked) int {
		return cmp.Or(strings.Compare(a.Operator, b.Operator), -strings.Compare(a.Kind, b.Kind), strings.Compare(a.What, b.What))
	})
	return all
}

// how far the entries of a state can be read.
func (d *decoder) how() (How, []string) {
	opaque := d.value.Opaque(d.key.Opaque(nil))
	if len(opaque) > 0 {
		return Framed, opaque
	}
	return Decoded, nil
}

// entry checks state that is not keyed. The error is damage.
func (v *verifier) entry(s *pb.OperatorSnapshot, e *pb.OperatorEntry) error {
	count, how, opaque := uint64(1), Checksum, []string(nil)
	var err error
	switch e.GetKind() {
	case checkpoint.EntrySplit:
		how = Decoded
		err = v.split(s, e)
	case checkpoint.EntryWatermark:
		how = Decoded
		if n := len(e.GetValue()); n != 8 {
			err = fmt.Errorf("watermark %q of operator %q has %d bytes, it is 8", e.GetKey(), s.GetUid(), n)
		}
	case checkpoint.EntryInFlight:
		how = Decoded
		var r inflight.Records
		if r, err = inflight.Parse(e.GetValue()); err == nil {
			var rows int
			rows, err = r.Check(int(s.GetMaxParallelism()))
			count = uint64(rows)
			if n, bad := schema.Parse(r.Schema); bad == nil {
				if opaque = n.Opaque(nil); len(opaque) > 0 {
					how = Framed
				}
			}
		}
		if err != nil {
			err = fmt.Errorf("input %s of operator %q: %w", e.GetKey(), s.GetUid(), err)
		}
	}
	v.account.add(s.GetUid(), "entry", e.GetKind(), count, how, opaque)
	return err
}

func (v *verifier) split(s *pb.OperatorSnapshot, e *pb.OperatorEntry) error {
	split, err := readSplit(e)
	if err != nil {
		return err
	}
	id := s.GetUid() + "\x00" + split.GetId()
	if v.splits[id] {
		return fmt.Errorf("split %q of source %q is there twice", split.GetId(), s.GetUid())
	}
	v.splits[id] = true
	return nil
}
