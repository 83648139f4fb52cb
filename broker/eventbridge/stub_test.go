package eventbridge_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/fogfish/swarm/broker/internal/awstest"
)

const busARN = "arn:aws:events:eu-west-1:123456789012:event-bus/bus"

// entry is what a request has of an event.
type entry struct {
	EventBusName, Source, DetailType, Detail, TraceHeader string
	Resources                                             []string
	Time                                                  float64
}

// stub is EventBridge with one bus, modelled on the API documentation; LocalStack is the
// check.
type stub struct {
	*awstest.Stub
	mu      sync.Mutex
	entries []entry                   // accepted ones
	answer  func(results []any) []any // changes an answer
}

func newStub(t awstest.T) *stub {
	s := &stub{Stub: awstest.NewStub(t, awstest.JSON("1.1"))}
	s.Do = s.do
	return s
}

func (s *stub) do(op string, body []byte, f awstest.Fault) (answer []byte, code string) {
	if op == "DescribeEventBus" {
		var in struct{ Name string }
		if json.Unmarshal(body, &in) != nil || in.Name != "bus" && in.Name != busARN {
			return nil, "ResourceNotFoundException"
		}
		return []byte(`{"Name":"bus"}`), ""
	}
	var in struct{ Entries []entry }
	if op != "PutEvents" || json.Unmarshal(body, &in) != nil || len(in.Entries) < 1 || len(in.Entries) > 10 {
		return nil, "ValidationException"
	}
	total := 0
	for _, e := range in.Entries {
		total += 14 + len(e.Source) + len(e.DetailType) + len(e.Detail) + len(strings.Join(e.Resources, ""))
	}
	if total >= 1<<20 {
		return nil, "ValidationException"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var results []any
	failed := 0
	for i, e := range in.Entries {
		if x, bad := f.Entries[i]; bad {
			s.Refuse(e.Detail)
			failed++
			results = append(results, map[string]string{"ErrorCode": x.Code, "ErrorMessage": "the stub says so"})
			continue
		}
		s.Accept(e.Detail)
		s.entries = append(s.entries, e)
		results = append(results, map[string]string{"EventId": fmt.Sprint("e-", len(s.entries))})
	}
	if s.answer != nil {
		results = s.answer(results)
	}
	answer, _ = json.Marshal(map[string]any{"FailedEntryCount": failed, "Entries": results})
	return answer, ""
}
