package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// maxSkew is how far the clock of who signs may be off.
	maxSkew = 5 * time.Minute
	// maxPost is AWS's limit of the payload of a request, in bytes. What is larger is not
	// even read.
	maxPost = 10 << 20
)

// Exceptions of the @connections API by status.
var exceptions = map[int]string{
	http.StatusForbidden:             "ForbiddenException",
	http.StatusGone:                  "GoneException",
	http.StatusRequestEntityTooLarge: "PayloadTooLargeException",
	http.StatusTooManyRequests:       "LimitExceededException",
	http.StatusMethodNotAllowed:      "MethodNotAllowedException",
}

var operations = map[string]string{http.MethodPost: "PostToConnection", http.MethodGet: "GetConnection", http.MethodDelete: "DeleteConnection"}

// connectionPath is the connection of /@connections/ID, with the stage before it or not.
// The path is that of the request line, the id in it percent-encoded.
func connectionPath(path, stage string) (id string, ok bool) {
	path = strings.TrimPrefix(path, "/"+stage+"/")
	first, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if decoded, err := url.PathUnescape(first); !ok || err != nil || decoded != "@connections" || rest == "" || strings.Contains(rest, "/") {
		return "", false
	}
	id, err := url.PathUnescape(rest)
	return id, err == nil
}

// manage serves a call of the @connections API.
func (g *Gateway) manage(w http.ResponseWriter, r *http.Request, id string) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		fail(w, http.StatusServiceUnavailable, "Service Unavailable", id, "")
		return
	}
	g.calls.Add(1)
	g.mu.Unlock()
	defer g.calls.Done()

	requestID := newID()
	w.Header().Set("x-amzn-RequestId", requestID)
	status, body, err := g.call(r, http.NewResponseController(w), id)
	if err != nil {
		exception := exceptions[status]
		if exception == "" {
			exception = "InternalServerErrorException"
		}
		g.log.printf("%s %q %d: %s", r.Method, id, status, reason(err))
		w.Header().Set("x-amzn-ErrorType", exception)
		fail(w, status, err.Error(), id, requestID)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller may have gone
}

// call does what is asked for. A status with an error is that of the exception.
func (g *Gateway) call(r *http.Request, rc *http.ResponseController, id string) (status int, body []byte, err error) {
	operation := operations[r.Method]
	if operation == "" {
		return http.StatusMethodNotAllowed, nil, errors.New("want POST, GET or DELETE")
	}
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every server can; they have their own
	limit, sum := g.api.Limits.Message, sha256.New()
	in := io.TeeReader(io.LimitReader(r.Body, maxPost+1), sum)
	data, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err == nil {
		var rest int64
		if rest, err = io.Copy(io.Discard, in); int64(len(data))+rest > maxPost {
			return http.StatusRequestEntityTooLarge, nil, fmt.Errorf("the request has more than %d bytes", maxPost)
		}
	}
	if err != nil {
		return http.StatusBadRequest, nil, errors.New("the request body broke off")
	}
	_ = rc.SetReadDeadline(time.Time{}) // else it would end the context of the request
	if err := g.verify(r, hex.EncodeToString(sum.Sum(nil))); err != nil {
		return http.StatusForbidden, nil, err
	}
	if g.api.Fault != nil {
		if status := g.api.Fault(r.Context(), operation, id); status != 0 {
			return status, nil, errors.New("fault injected")
		}
	}
	g.mu.Lock()
	c := g.connections[id]
	g.mu.Unlock()
	switch {
	case c == nil || r.Method == http.MethodDelete && !c.shut(errDeleted):
		return http.StatusGone, nil, errGone
	case r.Method == http.MethodDelete:
		return http.StatusNoContent, nil, nil
	case r.Method == http.MethodGet:
		body, err = c.describe()
		if err != nil {
			return http.StatusGone, nil, err
		}
		return http.StatusOK, body, nil
	case len(data) > limit:
		return http.StatusRequestEntityTooLarge, nil, fmt.Errorf("the message has more than %d bytes", limit)
	}
	switch err = c.post(data); {
	case errors.Is(err, errFull):
		return http.StatusTooManyRequests, nil, err
	case err != nil:
		return http.StatusGone, nil, err
	}
	return http.StatusOK, nil, nil
}

// describe is what GetConnection answers with.
func (c *connection) describe() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return nil, errGone
	}
	const iso8601 = "2006-01-02T15:04:05.000Z"
	return marshal(struct {
		ConnectedAt  string   `json:"connectedAt"`
		Identity     identity `json:"identity"`
		LastActiveAt string   `json:"lastActiveAt"`
	}{c.connectedAt.UTC().Format(iso8601), c.identity, c.lastActive.UTC().Format(iso8601)}), nil
}

// verify checks the signature, version 4, for execute-api. What is signed is the request
// as it came over the wire.
func (g *Gateway) verify(r *http.Request, payloadHash string) error {
	given, ok := authorization(r)
	if !ok {
		return errors.New("the request is not signed: want an Authorization header with a signature, version 4")
	}
	signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return errors.New("X-Amz-Date is missing or is no time")
	}
	if skew := time.Since(signed).Abs(); skew > maxSkew {
		return fmt.Errorf("the signature is off by %s: more than %s", skew.Round(time.Second), maxSkew)
	}
	credentials, err := g.api.Credentials.Retrieve(r.Context())
	if err != nil {
		return fmt.Errorf("the gateway has no credentials to compare with: %w", err)
	}
	accessKey, scope, _ := strings.Cut(given["Credential"], "/")
	if accessKey != credentials.AccessKeyID || r.Header.Get("X-Amz-Security-Token") != credentials.SessionToken {
		return errors.New("signed with other credentials than the gateway has")
	}
	if want := signed.Format("20060102") + "/" + g.api.Region + "/execute-api/aws4_request"; scope != want {
		return fmt.Errorf("the scope of the signature is not %s", want)
	}
	target, err := url.ParseRequestURI(r.RequestURI) // r.URL may have lost a prefix
	if err != nil {
		return errors.New("the request target is no URI")
	}
	again := &http.Request{Method: r.Method, URL: target, Host: r.Host, Header: http.Header{}}
	for name := range strings.SplitSeq(given["SignedHeaders"], ";") {
		switch values := r.Header.Values(name); {
		case name == "content-length":
			again.ContentLength = r.ContentLength
		case name != "host" && len(values) > 0:
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if err := v4.NewSigner().SignHTTP(context.Background(), credentials, again, payloadHash, "execute-api", g.api.Region, signed); err != nil {
		return fmt.Errorf("the request cannot be signed: %w", err)
	}
	want, _ := authorization(again)
	if want["SignedHeaders"] != given["SignedHeaders"] || subtle.ConstantTimeCompare([]byte(want["Signature"]), []byte(given["Signature"])) != 1 {
		return errors.New("the signature does not match: check the secret key, and that nothing changes the request on its way")
	}
	return nil
}

// authorization are the fields of a signed request.
func authorization(r *http.Request) (fields map[string]string, ok bool) {
	list, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	fields = map[string]string{}
	for field := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	return fields, ok
}
