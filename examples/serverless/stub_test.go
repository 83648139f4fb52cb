package serverless_test

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// stub is as much of SQS as a function needs that sends, and postpones messages.
type stub struct {
	URL string

	// Fault decides what becomes of the n-th batch that is sent, n = 1, 2, …. Nil: all is
	// well.
	Fault func(n int) fault

	mu        sync.Mutex
	batches   int
	confirmed []sent
	postponed map[string]int // receipt to seconds
}

// sent is a message that the stub has taken, and said so.
type sent struct{ Body, Category, Trace string }

type fault struct {
	Delay  time.Duration
	Until  chan struct{} // the answer waits for
	Status int           // instead of an answer
	Refuse bool          // each entry, for good
}

func newStub(t testing.TB) *stub {
	s := &stub{postponed: map[string]int{}}
	server := httptest.NewServer(s)
	s.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var in struct {
		QueueName string
		Entries   []struct {
			ID                      string `json:"Id"`
			MessageBody             string
			MessageAttributes       map[string]struct{ StringValue string }
			MessageSystemAttributes map[string]struct{ StringValue string }
			ReceiptHandle           string
			VisibilityTimeout       int
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	type result struct {
		ID          string `json:"Id"`
		MessageID   string `json:"MessageId,omitempty"`
		MD5         string `json:"MD5OfMessageBody,omitempty"`
		Code        string `json:",omitempty"`
		SenderFault bool   `json:",omitempty"`
	}
	out := struct {
		QueueURL           string `json:"QueueUrl,omitempty"`
		Successful, Failed []result
	}{Successful: []result{}, Failed: []result{}}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch op {
	case "GetQueueUrl":
		out.QueueURL = s.URL + "/000000000000/" + in.QueueName
	case "ChangeMessageVisibilityBatch":
		s.mu.Lock()
		for _, e := range in.Entries {
			s.postponed[e.ReceiptHandle] = e.VisibilityTimeout
			out.Successful = append(out.Successful, result{ID: e.ID})
		}
		s.mu.Unlock()
	case "SendMessageBatch":
		s.mu.Lock()
		s.batches++
		n, f := s.batches, fault{}
		s.mu.Unlock()
		if s.Fault != nil {
			f = s.Fault(n)
		}
		time.Sleep(f.Delay)
		if f.Until != nil {
			select {
			case <-f.Until:
			case <-r.Context().Done(): // the client has given up
				return
			}
		}
		if f.Status != 0 {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			w.WriteHeader(f.Status)
			fmt.Fprint(w, `{"__type":"com.amazonaws#InternalFailure","message":"the stub says so"}`)
			return
		}
		s.mu.Lock()
		for _, e := range in.Entries {
			if f.Refuse {
				out.Failed = append(out.Failed, result{ID: e.ID, Code: "InvalidParameterValue", SenderFault: true})
				continue
			}
			s.confirmed = append(s.confirmed, sent{e.MessageBody, e.MessageAttributes["Category"].StringValue, e.MessageSystemAttributes["AWSTraceHeader"].StringValue})
			out.Successful = append(out.Successful, result{ID: e.ID, MessageID: fmt.Sprint("m-", len(s.confirmed)), MD5: fmt.Sprintf("%x", md5.Sum([]byte(e.MessageBody)))})
		}
		s.mu.Unlock()
	default:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_, _ = w.Write(encode(out))
}

// took is what the stub has confirmed so far.
func (s *stub) took() []sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sent(nil), s.confirmed...)
}

func (s *stub) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}
