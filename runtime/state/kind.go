package state

import (
	"hash/maphash"
	"reflect"
	"unsafe"

	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"
)

// slot is an entry of a table.
type slot[K comparable, V any] struct {
	key K
	val V
}

// types is what a table knows of its types. These functions, and the searches of
// Table, are all the code that there is once for each pair of types; the rest is
// there once, and reaches entries by their addresses.
type types struct {
	key, value, entry reflect.Type
	keySize           uintptr
	entrySize         uintptr
	valueAt           uintptr // in an entry

	hash  func(key unsafe.Pointer) uint64
	equal func(a, b unsafe.Pointer) bool
	// moveKeys and moveEntries copy n of them, clearEntries makes n of them zero.
	moveKeys, moveEntries func(to, from unsafe.Pointer, n int)
	clearEntries          func(at unsafe.Pointer, n int)
}

func typesOf[K comparable, V any]() types {
	type entry = slot[K, V]
	return types{
		key: reflect.TypeFor[K](), value: reflect.TypeFor[V](), entry: reflect.TypeFor[entry](),
		keySize:   unsafe.Sizeof(*new(K)),
		entrySize: unsafe.Sizeof(entry{}), valueAt: unsafe.Offsetof(entry{}.val),
		equal:    func(a, b unsafe.Pointer) bool { return *(*K)(a) == *(*K)(b) },
		moveKeys: func(to, from unsafe.Pointer, n int) { copy(unsafe.Slice((*K)(to), n), unsafe.Slice((*K)(from), n)) },
		moveEntries: func(to, from unsafe.Pointer, n int) {
			copy(unsafe.Slice((*entry)(to), n), unsafe.Slice((*entry)(from), n))
		},
		clearEntries: func(at unsafe.Pointer, n int) { clear(unsafe.Slice((*entry)(at), n)) },
	}
}

// kind is what the tables of one state share.
type kind struct {
	layout
	name   string
	keys   *codec.Untyped
	values *codec.Untyped
	life   lifetime // of entries, see TTL
	// counted says that other tables know of the entries (their number, or what
	// goes with them), so that a snapshot has those, too, that have expired and are
	// still there.
	counted bool
	// keyTexts and valueTexts is where keys and values hold strings, see text.go.
	keyTexts, valueTexts []uintptr
	common               commons
	had                  []string // of Set, reused
	heap                 int      // see sample
	looked               uint32
	sample               []byte
	gone                 unsafe.Pointer // key of an entry that expired, for whoever is told
}

// newKind makes the kind of a state; hash is nil for that of the key.
func newKind[K comparable, V any](s *Store, name string, hash func(*K) uint64, ttl []TTL) (*kind, error) {
	t := typesOf[K, V]()
	if hash == nil {
		var err error
		if hash, err = keygroup.HasherOf[K](); err != nil {
			return nil, stateError(name, err)
		}
	}
	t.hash = func(key unsafe.Pointer) uint64 { return hash((*K)(key)) }
	return kindOf(s, name, t, ttl)
}

func kindOf(s *Store, name string, t types, ttl []TTL) (*kind, error) {
	k := &kind{name: name, common: commons{seed: maphash.MakeSeed()}}
	var err error
	if k.life, err = lifetimeOf(ttl); err != nil {
		return nil, stateError(name, err)
	}
	if k.keys, err = codec.For(t.key); err != nil {
		return nil, stateError(name, err)
	}
	if k.values, err = codec.For(t.value); err != nil {
		return nil, stateError(name, err)
	}
	k.keyTexts, k.valueTexts = k.keys.Texts(), k.values.Texts()
	k.layout.init(s, t, k.life.span > 0, len(k.keyTexts)+len(k.valueTexts) > 0)
	k.lasting = !k.values.Mutable()
	return k, nil
}

// table makes a table of the state.
func (k *kind) table(s *Store, ns int64) *table {
	t := &table{
		groups: uint32(k.full / groupSize), slots: uint32(k.slotsAt(k.full)),
		tree: tree{s: s, common: s.common}, owning: k.values.Mutable(),
		born: s.epoch, ns: ns, of: k,
	}
	if s.tier != nil {
		s.tier.enter(t)
	}
	return t
}
