package sqs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"

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

// canned is SQS as a client of the SDK sees it: it takes 5 ms for a request, and its
// answers cost next to nothing, so that what is measured is the library and the SDK.
type canned struct {
	requests atomic.Int64
	backlog  atomic.Int64 // messages to be received
	deleted  atomic.Int64
	receipt  atomic.Int64
}

const latency = 5 * time.Millisecond

func (c *canned) config() aws.Config {
	return aws.Config{Region: "eu-west-1", HTTPClient: c, BaseEndpoint: aws.String("http://stub"),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
}

func (c *canned) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c.requests.Add(1)
	time.Sleep(latency)
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var out bytes.Buffer
	switch op {
	case "SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch":
		n := bytes.Count(body, []byte(`"Id":`))
		if op == "DeleteMessageBatch" {
			c.deleted.Add(int64(n))
		}
		out.WriteString(`{"Failed":[],"Successful":[`)
		for i := range n {
			if i > 0 {
				out.WriteByte(',')
			}
			out.WriteString(`{"MessageId":"m","MD5OfMessageBody":"` + memoSum + `","Id":"` + strconv.Itoa(i) + `"}`)
		}
		out.WriteString(`]}`)
	case "ReceiveMessage":
		left := c.backlog.Add(-10)
		if left < -9 {
			c.backlog.Add(10)
			out.WriteString(`{}`)
			time.Sleep(20 * time.Millisecond) // a long poll
			break
		}
		out.WriteString(`{"Messages":[`)
		for i := range min(10, 10+left) {
			if i > 0 {
				out.WriteByte(',')
			}
			fmt.Fprintf(&out, `{"MessageId":"m","ReceiptHandle":"%d","Body":%q,"MD5OfBody":"%s","Attributes":{"ApproximateReceiveCount":"1","SentTimestamp":"1700000000000"},"MessageAttributes":{"Category":{"DataType":"String","StringValue":"Memo"}}}`,
				c.receipt.Add(1), memoJSON, memoSum)
		}
		out.WriteString(`]}`)
	default:
		out.WriteString(`{"QueueUrl":"http://stub/1/queue","Attributes":{"VisibilityTimeout":"30"}}`)
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: io.NopCloser(&out), ContentLength: int64(out.Len()), Request: r}, nil
}

// usage is what n messages took.
type usage struct {
	wall, cpu time.Duration
	requests  float64
}

func (c *canned) measure(n int, f func()) usage {
	before := cpu()
	requests := c.requests.Load()
	began := time.Now()
	f()
	return usage{time.Since(began), cpu() - before, float64(c.requests.Load()-requests) / float64(n)}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rawSend is the loop people write by hand: full batches, by as many goroutines as
// there are to be requests in flight.
func rawSend(c *canned, n, inflight int) {
	client := awssqs.NewFromConfig(c.config())
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
	q := swarm.Must(sqs.Emitter().WithConfig(c.config()).WithKernel(quiet, swarm.WithEmitWindow(window)).Build("queue"))
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
	client := awssqs.NewFromConfig(c.config())
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
	q := swarm.Must(sqs.Listener().WithConfig(c.config()).WithKernel(quiet, swarm.WithPollerPool(pollers)).Build("queue"))
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

// compare runs both in turn and reports the median of the ratios.
func compare(b *testing.B, n int, requests float64, raw, ours func(c *canned)) {
	c := &canned{}
	raw(c)
	ours(c)
	var speed, cpus, per []float64
	for range 5 {
		x := c.measure(n, func() { raw(c) })
		y := c.measure(n, func() { ours(c) })
		speed = append(speed, x.wall.Seconds()/y.wall.Seconds())
		cpus = append(cpus, y.cpu.Seconds()/x.cpu.Seconds())
		per = append(per, y.requests)
	}
	median := func(x []float64) float64 { slices.Sort(x); return x[len(x)/2] }
	b.ReportMetric(median(speed), "speed")
	b.ReportMetric(0.9, "min-speed")
	b.ReportMetric(median(cpus), "cpu")
	b.ReportMetric(1.5, "max-cpu")
	b.ReportMetric(median(per), "requests/msg")
	b.ReportMetric(requests, "max-requests/msg")
}

func BenchmarkBudgetSend(b *testing.B) {
	for _, x := range []struct{ window, inflight, n int }{{10, 1, 1600}, {160, 16, 16000}} {
		b.Run(fmt.Sprintf("window=%d/raw=%d", x.window, x.inflight), func(b *testing.B) {
			compare(b, x.n, 0.11, func(c *canned) { rawSend(c, x.n, x.inflight) }, func(c *canned) { ourSend(c, x.n, x.window) })
		})
	}
}

func BenchmarkBudgetReceive(b *testing.B) {
	for _, x := range []struct{ pollers, n int }{{1, 1600}, {16, 16000}} {
		b.Run(fmt.Sprintf("pollers=%d", x.pollers), func(b *testing.B) {
			compare(b, x.n, 0.24, func(c *canned) { rawReceive(c, x.n, x.pollers) }, func(c *canned) { ourReceive(c, x.n, x.pollers) })
		})
	}
}

// Stamp tells when it was sent.
type Stamp struct {
	At time.Time `json:"at"`
}

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
