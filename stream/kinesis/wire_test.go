package kinesis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/fxamacker/cbor/v2"
)

// post sends a signed request by hand.
func (r *rig) post(operation, contentType string, body []byte) (int, http.Header, []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("X-Amz-Target", target+operation)
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(r.t.Context(), aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, req, hex.EncodeToString(sum[:]), "kinesis", "us-east-1", r.clock.Now()); err != nil {
		r.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, res.Header, answer
}

// cborCall sends and reads CBOR as the Java SDK does: blobs are byte strings,
// timestamps integer milliseconds.
func (r *rig) cborCall(operation string, in map[string]any) map[string]any {
	r.t.Helper()
	body, err := cbor.Marshal(in)
	if err != nil {
		r.t.Fatal(err)
	}
	status, h, answer := r.post(operation, cborType, body)
	if status != http.StatusOK || h.Get("Content-Type") != cborType {
		r.t.Fatalf("%s: %d %s %x", operation, status, h.Get("Content-Type"), answer)
	}
	out := map[string]any{}
	if len(answer) > 0 {
		if err := cbor.Unmarshal(answer, &out); err != nil {
			r.t.Fatal(err)
		}
	}
	return out
}

func TestCBOR(t *testing.T) {
	r := newRig(t, nil)
	r.cborCall("CreateStream", map[string]any{"StreamName": "s", "ShardCount": 1})
	// A payload over 16 kB, as a byte string of indefinite length.
	payload := bytes.Repeat([]byte{0xff, 0, 'x'}, 20000)
	var body bytes.Buffer
	enc := cbor.NewEncoder(&body)
	for _, step := range []error{
		enc.StartIndefiniteMap(),
		enc.Encode("StreamName"), enc.Encode("s"),
		enc.Encode("PartitionKey"), enc.Encode("k"),
		enc.Encode("Data"), enc.StartIndefiniteByteString(), enc.Encode(payload[:100]), enc.Encode(payload[100:]), enc.EndIndefinite(),
		enc.EndIndefinite(),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	if status, _, answer := r.post("PutRecord", cborType, body.Bytes()); status != 200 {
		t.Fatalf("put: %d %x", status, answer)
	}
	it := r.cborCall("GetShardIterator", map[string]any{
		"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "AT_TIMESTAMP",
		"Timestamp": cbor.Tag{Number: 1, Content: r.clock.Now().Add(-time.Minute).UnixMilli()},
	})
	got := r.cborCall("GetRecords", map[string]any{"ShardIterator": it["ShardIterator"]})
	record := got["Records"].([]any)[0].(map[any]any)
	if data, ok := record["Data"].([]byte); !ok || !bytes.Equal(data, payload) {
		t.Errorf("data came back as %T of %d bytes", record["Data"], len(data))
	}
	if at, ok := record["ApproximateArrivalTimestamp"].(uint64); !ok || int64(at) != r.clock.Now().UnixMilli() {
		t.Errorf("arrival %v, want the integer %d", record["ApproximateArrivalTimestamp"], r.clock.Now().UnixMilli())
	}
	status, h, answer := r.post("DescribeStream", cborType, []byte{0xa0})
	fault := map[string]any{}
	if err := cbor.Unmarshal(answer, &fault); err != nil || status != 400 || fault["__type"] != "InvalidArgumentException" || h.Get("x-amzn-RequestId") == "" {
		t.Errorf("error in CBOR: %d %v %v", status, fault, err)
	}
}

func TestBrokenBodies(t *testing.T) {
	r := newRig(t, nil)
	for _, body := range []string{"{", `{"StreamName": 3}`, `[]`} {
		if status, _, answer := r.post("DescribeStream", jsonType, []byte(body)); status != 400 || !bytes.Contains(answer, []byte(`"__type":"SerializationException"`)) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	if status, _, _ := r.post("PutRecord", jsonType, make([]byte, maxBody+1)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: status %d", status)
	}
}

// TestSignatures signs random requests with AWS's own signer; each is taken,
// and none is with one bit changed.
func TestSignatures(t *testing.T) {
	n := 10000
	if testing.Short() {
		n = 500
	}
	r := rand.New(rand.NewPCG(1, 1))
	now := time.Now()
	v := verifier{keys: map[string]string{"AK": "secret"}}
	signer := v4.NewSigner()
	for i := range n {
		body := fmt.Appendf(nil, "{%q:%d}", "x", r.Uint64())
		build := func() *http.Request {
			req := httptest.NewRequest(http.MethodPost, fmt.Sprintf("http://host-%d:4567/?q=%s", i%7, [...]string{"", "a%20b", "c%2Fd", "%E2%82%AC"}[i%4]), bytes.NewReader(body))
			req.Header.Set("X-Amz-Target", target+"ListStreams")
			req.Header.Set("X-Custom", "  two   spaces ")
			return req
		}
		req := build()
		sum := sha256.Sum256(body)
		at := now.Add(time.Duration(r.Int64N(int64(28*time.Minute))) - 14*time.Minute)
		if err := signer.SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "AK", SecretAccessKey: "secret"}, req, hex.EncodeToString(sum[:]), "kinesis", "eu-north-1", at); err != nil {
			t.Fatal(err)
		}
		if region, f := v.verify(req, body, now); f != nil || region != "eu-north-1" {
			t.Fatalf("request %d: %q, %v", i, region, f)
		}
		if i%10 != 0 {
			continue
		}
		body[len(body)/2] ^= 1
		if _, f := v.verify(req, body, now); f == nil {
			t.Fatalf("request %d: a changed body was taken", i)
		}
		body[len(body)/2] ^= 1
		req.Header.Set("X-Amz-Target", target+"DeleteStream")
		if _, f := v.verify(req, body, now); f == nil {
			t.Fatalf("request %d: another operation was taken", i)
		}
		req.Header.Set("X-Amz-Target", target+"ListStreams")
		if _, f := v.verify(req, body, now.Add(31*time.Minute)); f == nil {
			t.Fatalf("request %d: an old signature was taken", i)
		}
	}
}
