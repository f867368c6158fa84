package kinesis

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/millrace/millrace/stream"
)

// tokenLife is how long iterators and list tokens are good for.
const tokenLife = 300 * time.Second

// tokens seals what an iterator or a list token means, so that a client can
// hold it and cannot make one: AES-GCM under a key derived from the server's.
type tokens struct {
	aead cipher.AEAD
}

func newTokens(key []byte) tokens {
	derived := sha256.Sum256(append([]byte("millrace kinesis token\x00"), key...))
	block, err := aes.NewCipher(derived[:])
	if err != nil {
		panic("kinesis: " + err.Error()) // the key has 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("kinesis: " + err.Error())
	}
	return tokens{aead: aead}
}

// iterator is a place in a shard.
type iterator struct {
	Stream     string          `json:"n"`
	Generation uint64          `json:"g"`
	Shard      uint32          `json:"s"`
	From       stream.From     `json:"f"`
	Sequence   stream.Sequence `json:"q"`
	Timestamp  int64           `json:"t"`
	Made       int64           `json:"m"` // Unix milliseconds
}

// page is where a listing goes on.
type page struct {
	Stream string `json:"n,omitempty"`
	After  string `json:"a"`
	Filter filter `json:"f"`
	Made   int64  `json:"m"`
}

// seal makes a token; the kind keeps one sort from passing for another.
func (t tokens) seal(kind string, v any) string {
	plain, err := json.Marshal(v)
	if err != nil {
		panic("kinesis: " + err.Error()) // only our own plain structs
	}
	return base64.StdEncoding.EncodeToString(t.aead.Seal(nil, nil, plain, []byte(kind)))
}

// open reads a token of this kind.
func (t tokens) open(kind, token string, v any) bool {
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return false
	}
	plain, err := t.aead.Open(nil, nil, sealed, []byte(kind))
	return err == nil && json.Unmarshal(plain, v) == nil
}

func fresh(made int64, now time.Time) bool { return now.Sub(time.UnixMilli(made)) <= tokenLife }
