package kinesis

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Signature Version 4 as the AWS documentation "Create a signed AWS API
// request" describes it: the server computes the signature of the request that
// it got and compares. The service name in the scope is kinesis.
const (
	algorithm  = "AWS4-HMAC-SHA256"
	service    = "kinesis"
	terminator = "aws4_request"
	dateFormat = "20060102T150405Z"
	maxSkew    = 15 * time.Minute
)

// verifier checks signatures against known keys.
type verifier struct {
	keys map[string]string
}

// signed is what a request says of its signature.
type signed struct {
	accessKey, date, region, scope string
	headers                        []string
	signature                      string
	when                           time.Time
	query                          url.Values // without the signature, for the query form
}

// verify returns the region that the request was signed for.
func (v *verifier) verify(r *http.Request, body []byte, now time.Time) (region string, _ *fault) {
	s, f := parseSignature(r)
	if f != nil {
		return "", f
	}
	secret, ok := v.keys[s.accessKey]
	if !ok {
		return "", faultf("UnrecognizedClientException", "The security token included in the request is invalid: access key %q is not known here", s.accessKey)
	}
	if skew := now.Sub(s.when); skew > maxSkew || skew < -maxSkew {
		return "", badSignature("Signature expired: %s is more than %v away from the server's clock (%s)", s.when.Format(dateFormat), maxSkew, now.UTC().Format(dateFormat))
	}
	for _, must := range []string{"host", "x-amz-target"} {
		if !slices.Contains(s.headers, must) {
			return "", badSignature("the header %s must be signed", must)
		}
	}
	want := sign(secret, s, canonicalRequest(r, s, body))
	if !hmac.Equal([]byte(want), []byte(s.signature)) {
		return "", badSignature("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	return s.region, nil
}

func badSignature(format string, args ...any) *fault {
	return faultf("InvalidSignatureException", format, args...)
}

func incomplete(format string, args ...any) *fault {
	return faultf("IncompleteSignatureException", format, args...)
}

// parseSignature reads the header form or the query form; both is an error.
func parseSignature(r *http.Request) (*signed, *fault) {
	auth, query := r.Header.Get("Authorization"), r.URL.Query()
	inQuery := query.Has("X-Amz-Signature") || query.Has("X-Amz-Algorithm")
	switch {
	case auth != "" && inQuery:
		return nil, badSignature("Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case auth != "":
		return parseHeader(auth, r.Header)
	case inQuery:
		return parseQuery(query)
	}
	return nil, faultf("MissingAuthenticationTokenException", "Missing Authentication Token")
}

func parseHeader(auth string, h http.Header) (*signed, *fault) {
	rest, ok := strings.CutPrefix(auth, algorithm)
	if !ok {
		return nil, incomplete("Authorization header is not of the algorithm %s", algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		if k, v, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
			fields[k] = v
		}
	}
	for _, k := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[k] == "" {
			return nil, incomplete("Authorization header requires '%s' parameter.", k)
		}
	}
	when := h.Get("X-Amz-Date")
	if when == "" {
		if t, err := http.ParseTime(h.Get("Date")); err == nil {
			when = t.UTC().Format(dateFormat)
		}
	}
	s := &signed{headers: strings.Split(fields["SignedHeaders"], ";"), signature: fields["Signature"]}
	if h.Get("X-Amz-Date") != "" && !slices.Contains(s.headers, "x-amz-date") {
		return nil, badSignature("the header x-amz-date must be signed")
	}
	return s, s.parseScope(fields["Credential"], when)
}

func parseQuery(q url.Values) (*signed, *fault) {
	for _, k := range []string{"X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date"} {
		if q.Get(k) == "" {
			return nil, incomplete("AWS query-string parameters must include '%s'.", k)
		}
	}
	if q.Get("X-Amz-Algorithm") != algorithm {
		return nil, incomplete("X-Amz-Algorithm is not %s", algorithm)
	}
	s := &signed{headers: strings.Split(q.Get("X-Amz-SignedHeaders"), ";"), signature: q.Get("X-Amz-Signature")}
	credential, when := q.Get("X-Amz-Credential"), q.Get("X-Amz-Date")
	q.Del("X-Amz-Signature")
	s.query = q
	return s, s.parseScope(credential, when)
}

func (s *signed) parseScope(credential, when string) *fault {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", credential)
	}
	s.accessKey, s.date, s.region = parts[0], parts[1], parts[2]
	if parts[3] != service || parts[4] != terminator {
		return badSignature("Credential should be scoped to service '%s' and end with '%s', got '%s'.", service, terminator, credential)
	}
	t, err := time.Parse(dateFormat, when)
	if err != nil {
		return incomplete("date '%s' is not in the form %s", when, dateFormat)
	}
	if t.Format("20060102") != s.date {
		return badSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'.", s.date, t.Format("20060102"))
	}
	s.when, s.scope = t, strings.Join(parts[1:], "/")
	return nil
}

// canonicalRequest is the text whose digest is signed.
func canonicalRequest(r *http.Request, s *signed, body []byte) string {
	query := s.query
	if query == nil {
		query = r.URL.Query()
	}
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, escape(path, true), canonicalQuery(query))
	for _, name := range s.headers {
		fmt.Fprintf(&b, "%s:%s\n", name, headerValue(r, name))
	}
	digest := sha256.Sum256(body)
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(s.headers, ";"), hex.EncodeToString(digest[:]))
	return b.String()
}

func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return fmt.Sprint(r.ContentLength)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	for k, vs := range q {
		for _, v := range vs {
			pairs = append(pairs, escape(k, false)+"="+escape(v, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape is the percent-encoding of the signature: all but unreserved
// characters, and slashes where the text is a path.
func escape(s string, path bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0, path && c == '/':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func sign(secret string, s *signed, canonical string) string {
	digest := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{algorithm, s.when.Format(dateFormat), s.scope, hex.EncodeToString(digest[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.date, s.region, service, terminator} {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, text))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
