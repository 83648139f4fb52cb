package sns_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/fogfish/swarm/broker/internal/awstest"
)

const prefixARN = "arn:aws:sns:eu-west-1:123456789012:"

// query is the protocol AWS Query: forms go in, XML comes out.
var query = awstest.Protocol{
	ContentType: "text/xml",
	Operation: func(_ *http.Request, body []byte) string {
		_, op, _ := bytes.Cut(body, []byte("Action="))
		op, _, _ = bytes.Cut(op, []byte("&"))
		return string(op)
	},
	Error: func(code string) []byte {
		return fmt.Appendf(nil, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>the stub says so</Message></Error></ErrorResponse>`, code)
	},
}

// result is the answer of an operation.
func result(op, content string) []byte {
	return fmt.Appendf(nil, `<%[1]sResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>`, op, content)
}

// message is what a request has of a message.
type message struct {
	topic, body, subject, group, dedup string
	attributes                         map[string]string
}

// stub is SNS with some topics, modelled on the API documentation; LocalStack is the check.
type stub struct {
	*awstest.Stub
	topics []string          // names
	attrs  map[string]string // of each topic

	mu       sync.Mutex
	messages []message       // accepted ones
	dedup    map[string]bool // ids seen
	answer   string          // in place of the right one
}

func newStub(t awstest.T) *stub {
	s := &stub{Stub: awstest.NewStub(t, query), topics: []string{"topic", "topic.fifo"}, dedup: map[string]bool{}}
	s.Do = s.do
	return s
}

func (s *stub) do(op string, body []byte, f awstest.Fault) (answer []byte, code string) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, "ValidationException"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch op {
	case "ListTopics":
		// Two topics a page: the token is the first of the next one.
		var first int
		_, _ = fmt.Sscan(form.Get("NextToken"), &first)
		var out bytes.Buffer
		for _, name := range s.topics[first:min(first+2, len(s.topics))] {
			fmt.Fprintf(&out, "<member><TopicArn>%s%s</TopicArn></member>", prefixARN, name)
		}
		next := ""
		if first+2 < len(s.topics) {
			next = fmt.Sprintf("<NextToken>%d</NextToken>", first+2)
		}
		return result(op, "<Topics>"+out.String()+"</Topics>"+next), ""
	case "GetTopicAttributes", "PublishBatch":
		known := false
		for _, name := range s.topics {
			known = known || form.Get("TopicArn") == prefixARN+name
		}
		if !known {
			return nil, "NotFound"
		}
		if op == "PublishBatch" {
			return s.publish(form, f)
		}
		var out bytes.Buffer
		for name, value := range s.attrs {
			fmt.Fprintf(&out, "<entry><key>%s</key><value>%s</value></entry>", name, value)
		}
		return result(op, "<Attributes>"+out.String()+"</Attributes>"), ""
	}
	return nil, "ValidationException"
}

func (s *stub) publish(form url.Values, f awstest.Fault) (answer []byte, code string) {
	var all []message
	total := 0
	for i := 1; form.Has(fmt.Sprintf("PublishBatchRequestEntries.member.%d.Id", i)); i++ {
		get := func(name string) string {
			return form.Get(fmt.Sprintf("PublishBatchRequestEntries.member.%d.%s", i, name))
		}
		m := message{topic: form.Get("TopicArn"), body: get("Message"), subject: get("Subject"),
			group: get("MessageGroupId"), dedup: get("MessageDeduplicationId"), attributes: map[string]string{}}
		total += len(m.body)
		for k := 1; get(fmt.Sprintf("MessageAttributes.entry.%d.Name", k)) != ""; k++ {
			name, value := get(fmt.Sprintf("MessageAttributes.entry.%d.Name", k)), get(fmt.Sprintf("MessageAttributes.entry.%d.Value.StringValue", k))
			m.attributes[name] = value
			total += len(name) + len("String") + len(value)
		}
		all = append(all, m)
	}
	limit := 256 << 10
	_, _ = fmt.Sscan(s.attrs["MaximumMessageSize"], &limit)
	switch {
	case len(all) > 10:
		return nil, "TooManyEntriesInBatchRequest"
	case total > limit:
		return nil, "BatchRequestTooLong"
	}
	var good, bad bytes.Buffer
	for i, m := range all {
		if x, fails := f.Entries[i]; fails {
			s.Refuse(m.body)
			fmt.Fprintf(&bad, "<member><Id>%d</Id><Code>%s</Code><Message>the stub says so</Message><SenderFault>%v</SenderFault></member>", i, x.Code, x.Sender)
			continue
		}
		if m.dedup == "" || !s.dedup[m.dedup] {
			s.dedup[m.dedup] = true
			s.Accept(m.body)
			s.messages = append(s.messages, m)
		}
		fmt.Fprintf(&good, "<member><Id>%d</Id><MessageId>m</MessageId></member>", i)
	}
	out := "<Successful>" + good.String() + "</Successful><Failed>" + bad.String() + "</Failed>"
	if s.answer != "" {
		out = s.answer
	}
	if xml.Unmarshal([]byte("<x>"+out+"</x>"), new(struct{})) != nil {
		panic("the stub answers no XML: " + out)
	}
	return result("PublishBatch", out), ""
}
