package eventbridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseventbridge "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"

	"github.com/fogfish/swarm/broker/eventbridge"
	"github.com/fogfish/swarm/broker/internal/awstest"
)

// Memo is what the benchmark sends: 1 KiB of JSON.
type Memo struct {
	Text string `json:"text"`
}

var memo = Memo{strings.Repeat("x", 1024-11)}

func canned() *awstest.Canned {
	return &awstest.Canned{Protocol: awstest.JSON("1.1"), Answer: func(op string, body []byte) string {
		if op != "PutEvents" {
			return `{"Name":"bus"}`
		}
		n := bytes.Count(body, []byte(`"DetailType":`))
		return `{"FailedEntryCount":0,"Entries":[` + strings.TrimSuffix(strings.Repeat(`{"EventId":"e"},`, n), ",") + `]}`
	}}
}

// raw is the loop people write by hand: full batches, by as many goroutines as there are
// to be requests in flight.
func raw(c *awstest.Canned, n, inflight int) {
	client := awseventbridge.NewFromConfig(c.Config())
	var all sync.WaitGroup
	for range inflight {
		all.Go(func() {
			for range n / inflight / 10 {
				entries := make([]types.PutEventsRequestEntry, 10)
				for i := range entries {
					body, err := json.Marshal(memo)
					if err != nil {
						panic(err)
					}
					entries[i] = types.PutEventsRequestEntry{EventBusName: aws.String("bus"), Source: aws.String("me"),
						DetailType: aws.String("Memo"), Detail: aws.String(string(body)), Time: aws.Time(time.Now())}
				}
				out, err := client.PutEvents(context.Background(), &awseventbridge.PutEventsInput{Entries: entries})
				if err != nil || out.FailedEntryCount > 0 {
					panic(err)
				}
			}
		})
	}
	all.Wait()
}

func ours(c *awstest.Canned, n, window int) {
	q := swarm.Must(eventbridge.Emitter().WithConfig(c.Config()).
		WithKernel(quiet, swarm.WithSource("me"), swarm.WithEmitWindow(window)).Build("bus"))
	enq, _ := emit.Typed[Memo](q)
	for range n {
		enq <- memo
	}
	close(enq)
	if err := q.Close(); err != nil {
		panic(err)
	}
}

func BenchmarkBudgetSend(b *testing.B) {
	for _, x := range []struct{ window, inflight, n int }{{10, 1, 1600}, {160, 16, 16000}} {
		b.Run(fmt.Sprintf("window=%d/raw=%d", x.window, x.inflight), func(b *testing.B) {
			c := canned()
			c.Compare(b, x.n, 0.11, func() { raw(c, x.n, x.inflight) }, func() { ours(c, x.n, x.window) })
		})
	}
}
