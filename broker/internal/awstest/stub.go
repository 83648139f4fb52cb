// Package awstest is what the tests of the brokers on AWS share: a service over HTTP that
// fails on demand, the ledger of what is sent to it, and a client whose answers cost next
// to nothing, for benchmarks. Only files of tests import it.
package awstest

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Fault is how a request goes wrong. The zero value is none.
type Fault struct {
	Status  int           // answer this status instead
	Code    string        // with this error
	Hang    bool          // never answer
	Reset   bool          // close the connection
	Lost    bool          // do it, and close the connection
	Entries map[int]Entry // entries of a batch that fail
	Garble  bool          // answer a checksum that does not match
	Delay   time.Duration
}

// Entry is how an entry of a batch goes wrong.
type Entry struct {
	Code   string
	Sender bool // is at fault
}

// Batch is a fault of the entries at positions or, without any, of the whole request.
func Batch(positions []int, status int, code string) Fault {
	if positions == nil {
		return Fault{Status: status, Code: code}
	}
	f := Fault{Entries: map[int]Entry{}}
	for _, i := range positions {
		f.Entries[i] = Entry{Code: code, Sender: status < 500}
	}
	return f
}

// Protocol is how a service is spoken to.
type Protocol struct {
	ContentType string
	Operation   func(r *http.Request, body []byte) string
	Error       func(code string) []byte
}

// JSON is the protocol by that name, of version 1.0 or 1.1.
func JSON(version string) Protocol {
	return Protocol{
		ContentType: "application/x-amz-json-" + version,
		Operation: func(r *http.Request, _ []byte) string {
			_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
			return op
		},
		Error: func(code string) []byte {
			out, _ := json.Marshal(map[string]string{"__type": "com.amazonaws#" + code, "message": "the stub says so"})
			return out
		},
	}
}

// Stub is a service over HTTP that keeps what it accepts.
type Stub struct {
	// Do answers a request: its body, or the code of an error. Entries of a batch that
	// the fault names fail; of each it calls Accept or Refuse.
	Do func(op string, body []byte, f Fault) (answer []byte, code string)

	// DoContext takes the place of Do where the service waits: ctx ends when the client
	// has gone.
	DoContext func(ctx context.Context, op string, body []byte, f Fault) (answer []byte, code string)

	// Fault decides over the n-th request of an operation, n = 1, 2 …. Nil: none fails.
	Fault func(op string, n int) Fault

	protocol Protocol
	server   *httptest.Server

	mu       sync.Mutex
	once     map[string]Fault
	requests map[string]int
	accepted []string
	refused  map[string]int
}

// T is what a stub needs of a test.
type T interface{ Cleanup(func()) }

// NewStub starts a service that ends with the test. Set Do before the first request.
func NewStub(t T, p Protocol) *Stub {
	s := &Stub{protocol: p, once: map[string]Fault{}, requests: map[string]int{}, refused: map[string]int{}}
	s.server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s
}

// Once makes the next request of an operation go wrong.
func (s *Stub) Once(op string, f Fault) { s.mu.Lock(); defer s.mu.Unlock(); s.once[op] = f }

// URL of the service.
func (s *Stub) URL() string { return s.server.URL }

// Config of a client of the stub.
func (s *Stub) Config() aws.Config { return config(s.server.URL, nil) }

func config(url string, client aws.HTTPClient) aws.Config {
	return aws.Config{Region: "eu-west-1", BaseEndpoint: &url, HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
}

// Accept notes that a message is stored, Refuse that it is not.
func (s *Stub) Accept(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = append(s.accepted, body)
}

// Refuse is the opposite of Accept.
func (s *Stub) Refuse(body string) { s.mu.Lock(); defer s.mu.Unlock(); s.refused[body]++ }

// Accepted are the messages that are stored, in order.
func (s *Stub) Accepted() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.accepted) }

// Refused counts how often each message was not.
func (s *Stub) Refused() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.refused)
}

// Count is how many requests there were of operations.
func (s *Stub) Count(ops ...string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		n += s.requests[op]
	}
	return n
}

// ServeHTTP implements [http.Handler].
func (s *Stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	op := s.protocol.Operation(r, body)
	s.mu.Lock()
	s.requests[op]++
	n := s.requests[op]
	f := s.once[op]
	delete(s.once, op)
	s.mu.Unlock()
	if s.Fault != nil {
		f = s.Fault(op, n)
	}
	time.Sleep(f.Delay)
	switch {
	case f.Hang:
		<-r.Context().Done()
		return
	case f.Reset:
		reset(w)
		return
	case f.Status != 0:
		s.answer(w, f.Status, s.protocol.Error(f.Code))
		return
	}
	var out []byte
	var code string
	if s.DoContext != nil {
		out, code = s.DoContext(r.Context(), op, body, f)
	} else {
		out, code = s.Do(op, body, f)
	}
	switch {
	case code != "":
		s.answer(w, http.StatusBadRequest, s.protocol.Error(code))
	case f.Lost:
		reset(w)
	default:
		s.answer(w, http.StatusOK, out)
	}
}

func (s *Stub) answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", s.protocol.ContentType)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, not an end
	}
	_ = conn.Close()
}
