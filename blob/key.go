package blob

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of keys. They are those of the strictest store: a file system with
// names of 255 bytes, and S3 with keys of 1024.
const (
	MaxKeyBytes     = 1000
	MaxSegmentBytes = 240
)

// reserved is a first segment that the file bucket keeps for itself; the
// others refuse it too, so that buckets can be copied into each other.
const reserved = ".millrace"

// ErrInvalidKey: the key breaks a rule of ValidateKey.
var ErrInvalidKey = errors.New("invalid key")

// ValidateKey returns an error that wraps ErrInvalidKey unless key is one to
// MaxKeyBytes bytes of valid UTF-8 in segments separated by single slashes,
// each of one to MaxSegmentBytes bytes, none of them "." or "..", without
// control characters and backslashes. It does not begin or end with a slash,
// and its first segment is not ".millrace".
func ValidateKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidKey)
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("%w %.40q…: %d bytes, the limit is %d", ErrInvalidKey, key, len(key), MaxKeyBytes)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w %q: not UTF-8", ErrInvalidKey, key)
	}
	for i, segment := range strings.Split(key, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("%w %q: empty segment", ErrInvalidKey, key)
		case segment == "." || segment == "..":
			return fmt.Errorf("%w %q: segment %q", ErrInvalidKey, key, segment)
		case i == 0 && segment == reserved:
			return fmt.Errorf("%w %q: %s is reserved", ErrInvalidKey, key, reserved)
		case len(segment) > MaxSegmentBytes:
			return fmt.Errorf("%w %.40q…: a segment has %d bytes, the limit is %d", ErrInvalidKey, key, len(segment), MaxSegmentBytes)
		}
	}
	if i := strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }); i >= 0 {
		return fmt.Errorf("%w %q: character %q", ErrInvalidKey, key, key[i])
	}
	return nil
}
