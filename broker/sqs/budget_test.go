package sqs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/sqs"
)

// Memo is what the benchmarks send: 1 KiB of JSON.
type Memo struct {
	Text string `json:"text"`
}

var (
	memo     = Memo{strings.Repeat("x", 1024-11)}
	memoJSON = func() string { b, _ := json.Marshal(memo); return string(b) }()
	memoSum  = checksum(memoJSON)
)

// canned is SQS with as many messages as a receive is to find, whoever has deleted them.
type canned struct {
	*awstest.Canned
	backlog, receipt atomic.Int64
}

func newCanned() *canned {
	c := &canned{}
	c.Canned = &awstest.Canned{Protocol: awstest.JSON("1.0"), Answer: c.answer}
	return c
}

func (c *canned) answer(op string, body []byte) string {
	var out []string
	switch op {
	case "SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch":
		for i := range bytes.Count(body, []byte(`"Id":`)) {
			out = append(out, `{"MessageId":"m","MD5OfMessageBody":"`+memoSum+`","Id":"`+strconv.Itoa(i)+`"}`)
		}
		return `{"Failed":[],"Successful":[` + strings.Join(out, ",") + `]}`
	case "ReceiveMessage":
		left := c.backlog.Add(-10)
		if left < -9 {
			c.backlog.Add(10)
			time.Sleep(20 * time.Millisecond) // a long poll
			return `{}`
		}
		for range min(10, 10+left) {
			out = append(out, fmt.Sprintf(`{"MessageId":"m","ReceiptHandle":"%d","Body":%q,"MD5OfBody":"%s","Attributes":{"ApproximateReceiveCount":"1","SentTimestamp":"1700000000000"},"MessageAttributes":{"Category":{"DataType":"String","StringValue":"Memo"}}}`,
				c.receipt.Add(1), memoJSON, memoSum))
		}
		return `{"Messages":[` + strings.Join(out, ",") + `]}`
	}
	return `{"QueueUrl":"http://stub/1/queue","Attributes":{"VisibilityTimeout":"30"}}`
}

// rawSend is the loop people write by hand: full batches, by as many goroutines as
// there are to be requests in flight.
func rawSend(c *canned, n, inflight int) {
	client := awssqs.NewFromConfig(c.Config())
	var all sync.WaitGroup
	for range inflight {
		all.Go(func() {
			for range n / inflight / 10 {
				entries := make([]types.SendMessageBatchRequestEntry, 10)
				for i := range entries {
					body, err := json.Marshal(memo)
					if err != nil {
						panic(err)
					}
					entries[i] = types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(string(body)),
						MessageAttributes: map[string]types.MessageAttributeValue{"Category": {DataType: aws.String("String"), StringValue: aws.String("Memo")}}}
				}
				out, err := client.SendMessageBatch(context.Background(), &awssqs.SendMessageBatchInput{QueueUrl: aws.String("http://stub/1/queue"), Entries: entries})
				if err != nil || len(out.Failed) > 0 {
					panic(err)
				}
			}
		})
	}
	all.Wait()
}

func ourSend(c *canned, n, window int) {
	q := swarm.Must(sqs.Emitter().WithConfig(c.Config()).WithKernel(quiet, swarm.WithEmitWindow(window)).Build("queue"))
	enq, _ := emit.Typed[Memo](q)
	for range n {
		enq <- memo
	}
	close(enq)
	if err := q.Close(); err != nil {
		panic(err)
	}
}

// rawReceive is the loop people write by hand: receive ten, decode, delete ten.
func rawReceive(c *canned, n, inflight int) {
	client := awssqs.NewFromConfig(c.Config())
	c.backlog.Store(int64(n))
	url := aws.String("http://stub/1/queue")
	var all sync.WaitGroup
	for range inflight {
		all.Go(func() {
			for range n / inflight / 10 {
				out, err := client.ReceiveMessage(context.Background(), &awssqs.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: 10, WaitTimeSeconds: 20,
					MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}})
				if err != nil {
					panic(err)
				}
				entries := make([]types.DeleteMessageBatchRequestEntry, len(out.Messages))
				for i, m := range out.Messages {
					var v Memo
					if err := json.Unmarshal([]byte(*m.Body), &v); err != nil {
						panic(err)
					}
					entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle}
				}
				if _, err := client.DeleteMessageBatch(context.Background(), &awssqs.DeleteMessageBatchInput{QueueUrl: url, Entries: entries}); err != nil {
					panic(err)
				}
			}
		})
	}
	all.Wait()
}

func ourReceive(c *canned, n, pollers int) {
	q := swarm.Must(sqs.Listener().WithConfig(c.Config()).WithKernel(quiet, swarm.WithPollerPool(pollers)).Build("queue"))
	deq, ack := listen.Typed[Memo](q)
	c.backlog.Store(int64(n))
	go q.Run(context.Background())
	for range n {
		ack <- <-deq
	}
	if err := q.Close(); err != nil {
		panic(err)
	}
}

func BenchmarkBudgetSend(b *testing.B) {
	for _, x := range []struct{ window, inflight, n int }{{10, 1, 1600}, {160, 16, 16000}} {
		b.Run(fmt.Sprintf("window=%d/raw=%d", x.window, x.inflight), func(b *testing.B) {
			c := newCanned()
			c.Compare(b, x.n, 0.11, func() { rawSend(c, x.n, x.inflight) }, func() { ourSend(c, x.n, x.window) })
		})
	}
}

func BenchmarkBudgetReceive(b *testing.B) {
	for _, x := range []struct{ pollers, n int }{{1, 1600}, {16, 16000}} {
		b.Run(fmt.Sprintf("pollers=%d", x.pollers), func(b *testing.B) {
			c := newCanned()
			c.Compare(b, x.n, 0.24, func() { rawReceive(c, x.n, x.pollers) }, func() { ourReceive(c, x.n, x.pollers) })
		})
	}
}

// Stamp tells when it was sent.
type Stamp struct {
	At time.Time `json:"at"`
}

const latency = 5 * time.Millisecond

// p99 of the time from Enq to the consumer, of messages sent 5 ms apart, while as many
// messages of another category hang as the kernel takes: a share, and half of one parked.
func p99(b *testing.B, hung int) time.Duration {
	s := newStub(b)
	s.latency = latency
	q := endpoint(b, s, swarm.WithDrainTimeout(time.Second), swarm.WithTimeToFlight(time.Hour))
	slow, slowAck := listen.Typed[Note](q)
	deq, ack := listen.Typed[Stamp](q)
	hang := emit.NewTyped[Note](q)
	for i := range hung {
		if err := hang.Enq(b.Context(), Note{i}); err != nil {
			b.Fatal(err)
		}
	}
	go q.Run(context.Background())
	var hands []swarm.Msg[Note]
	for range min(hung, 3) {
		hands = append(hands, <-slow)
	}
	const total = 400
	one := emit.NewTyped[Stamp](q)
	go func() {
		for range total {
			go func() { _ = one.Enq(context.Background(), Stamp{time.Now()}) }()
			time.Sleep(5 * time.Millisecond)
		}
	}()
	var took []time.Duration
	for range total {
		msg := <-deq
		took = append(took, time.Since(msg.Object.At))
		ack <- msg
	}
	_ = q.Close() // which counts the hung ones
	for _, msg := range hands {
		slowAck <- msg
	}
	slices.Sort(took)
	return took[total*99/100]
}

// L5: a hung consumer moves the p99 of another category by two request times at most.
func BenchmarkBudgetNeighbour(b *testing.B) {
	var shift []float64
	for range 5 {
		alone := p99(b, 0)
		shift = append(shift, float64((p99(b, 15)-alone).Microseconds())/1000)
	}
	slices.Sort(shift)
	b.ReportMetric(shift[2], "p99-shift-ms")
	b.ReportMetric(2*float64(latency.Milliseconds()), "max-p99-shift-ms")
}
