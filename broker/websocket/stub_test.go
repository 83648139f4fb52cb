package websocket_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/fogfish/swarm/core/driver"
)

// tester is what the stub needs of a test, or of a case of the suite.
type tester interface{ Cleanup(func()) }

// stub is the management API of one WebSocket API, modelled on its documentation. The
// gateway of qtest/local is the check: see examples/e2e.
type stub struct {
	*httptest.Server
	requests int

	mu     sync.Mutex
	posted []driver.Bag // accepted, in order; the group is the connection
	taken  int          // of posted, by drain
	faults []fault      // of the next requests
	gone   map[string]bool
	hung   map[string]chan struct{} // closed: it goes on
	busy   map[string]int           // requests of a connection in flight
	most   int                      // of busy
}

type fault struct {
	status int
	code   string
}

func newStub(t tester) *stub {
	s := &stub{gone: map[string]bool{}, hung: map[string]chan struct{}{}, busy: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// address of the API, as a client knows it.
func (s *stub) address() string { return strings.Replace(s.URL, "http://", "ws://", 1) + "/prod" }

func (s *stub) config() aws.Config {
	return aws.Config{Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")}
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	id, found := strings.CutPrefix(r.URL.EscapedPath(), "/prod/@connections/")
	connection, bad := url.PathUnescape(id)
	if err != nil || bad != nil || !found || r.Method != http.MethodPost || !strings.Contains(r.Header.Get("Authorization"), "/execute-api/") {
		s.refuse(w, fault{http.StatusBadRequest, "BadRequestException"})
		return
	}
	s.mu.Lock()
	s.requests++
	s.busy[connection]++
	s.most = max(s.most, s.busy[connection])
	hung := s.hung[connection]
	s.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[connection]--
	switch {
	case len(s.faults) > 0:
		f := s.faults[0]
		s.faults = s.faults[1:]
		s.refuse(w, f)
	case s.gone[connection]:
		s.refuse(w, fault{http.StatusGone, "GoneException"})
	default:
		s.posted = append(s.posted, driver.Bag{Body: body, Group: connection})
	}
}

func (s *stub) refuse(w http.ResponseWriter, f fault) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("x-amzn-ErrorType", f.code)
	w.WriteHeader(f.status)
	fmt.Fprint(w, `{"message":"the stub says so"}`)
}

// fail makes the next requests fail.
func (s *stub) fail(all ...fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, all...)
}

// to is what a connection has got.
func (s *stub) to(connection string) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, bag := range s.posted {
		if bag.Group == connection {
			all = append(all, string(bag.Body))
		}
	}
	return all
}

func (s *stub) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// hang holds what goes to a connection up, until the test ends or it is let go.
func (s *stub) hang(t *testing.T, connection string) (let func()) {
	held := make(chan struct{})
	var once sync.Once
	let = func() { once.Do(func() { close(held) }) }
	t.Cleanup(let)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung[connection] = held
	return let
}
