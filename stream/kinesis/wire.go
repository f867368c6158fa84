package kinesis

import (
	"encoding/json"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"
)

const (
	jsonType = "application/x-amz-json-1.1"
	cborType = "application/x-amz-cbor-1.1"
)

// encoding is one of the two body formats. Both use the same structs: their
// json tags name the members.
type encoding struct {
	contentType string
	marshal     func(any) ([]byte, error)
	unmarshal   func([]byte, any) error
}

var (
	asJSON = encoding{jsonType, json.Marshal, json.Unmarshal}
	asCBOR = newCBOR()
)

func newCBOR() encoding {
	enc, err := cbor.EncOptions{}.EncMode()
	if err != nil {
		panic("kinesis: " + err.Error())
	}
	// Limits match those of bodies; clients may send byte strings of
	// indefinite length.
	dec, err := cbor.DecOptions{MaxNestedLevels: 16, MaxArrayElements: 1 << 16, MaxMapPairs: 1 << 16}.DecMode()
	if err != nil {
		panic("kinesis: " + err.Error())
	}
	return encoding{cborType, enc.Marshal, dec.Unmarshal}
}

// encodingOf finds the format of a request. Plain JSON is taken for the AWS
// variant, as by the service; a request with neither format nor body is a
// person's, who is answered in JSON.
func encodingOf(r *http.Request) (encoding, bool) {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil && r.ContentLength == 0 && r.Header.Get("Content-Type") == "":
		return asJSON, false
	case err != nil:
		return asCBOR, false
	case t == jsonType || t == "application/json":
		return asJSON, true
	case t == cborType:
		return asCBOR, true
	}
	return asCBOR, false
}

// timestamp is a point in time: epoch seconds with fraction in JSON, integer
// epoch milliseconds in CBOR.
type timestamp int64 // Unix milliseconds

func (t timestamp) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(t)/1000, 'f', -1, 64), nil
}

func (t *timestamp) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > math.MaxInt64/1000/2 {
		return fmt.Errorf("timestamp %s is not a number of seconds", b)
	}
	*t = timestamp(math.Round(f * 1000))
	return nil
}

func (t timestamp) MarshalCBOR() ([]byte, error) { return cbor.Marshal(int64(t)) }

func (t *timestamp) UnmarshalCBOR(b []byte) error {
	var v any
	if err := cbor.Unmarshal(b, &v); err != nil {
		return err
	}
	// Clients tag the number as an epoch time, which is seconds by the tag's
	// own definition; the API says milliseconds.
	if tag, ok := taggedNumber(b); ok {
		v = tag
	}
	switch n := v.(type) {
	case uint64:
		*t = timestamp(n)
	case int64:
		*t = timestamp(n)
	case float64:
		*t = timestamp(n)
	default:
		return fmt.Errorf("timestamp is a %T, not a number of milliseconds", v)
	}
	return nil
}

// taggedNumber takes the number out of CBOR tag 1.
func taggedNumber(b []byte) (any, bool) {
	var raw cbor.RawTag
	if cbor.Unmarshal(b, &raw) != nil || raw.Number != 1 {
		return nil, false
	}
	var v any
	if cbor.Unmarshal(raw.Content, &v) != nil {
		return nil, false
	}
	return v, true
}

func (t timestamp) time() time.Time { return time.UnixMilli(int64(t)) }
