package codec

import (
	"encoding/binary"
	"math/bits"
)

// Memory and wire are the same bytes for fixed types, which holds where ints
// have 64 bits and the least byte comes first: on every platform that Millrace
// supports.
func init() {
	if bits.UintSize != 64 || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		panic("codec: this platform is not 64-bit little-endian, which Millrace needs")
	}
}
