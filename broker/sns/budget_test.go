package sns_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/sns"
)

// Memo is what the benchmark sends: 1 KiB of JSON.
type Memo struct {
	Text string `json:"text"`
}

var memo = Memo{strings.Repeat("x", 1024-11)}

func canned() *awstest.Canned {
	return &awstest.Canned{Protocol: query, Answer: func(op string, body []byte) string {
		if op != "PublishBatch" {
			return string(result(op, "<Attributes></Attributes>"))
		}
		var out strings.Builder
		for i := range bytes.Count(body, []byte(".Message=")) {
			out.WriteString("<member><Id>" + strconv.Itoa(i) + "</Id><MessageId>m</MessageId></member>")
		}
		return string(result(op, "<Successful>"+out.String()+"</Successful><Failed/>"))
	}}
}

// raw is the loop people write by hand: full batches, by as many goroutines as there are
// to be requests in flight.
func raw(c *awstest.Canned, n, inflight int) {
	client := awssns.NewFromConfig(c.Config())
	var all sync.WaitGroup
	for range inflight {
		all.Go(func() {
			for range n / inflight / 10 {
				entries := make([]types.PublishBatchRequestEntry, 10)
				for i := range entries {
					body, err := json.Marshal(memo)
					if err != nil {
						panic(err)
					}
					entries[i] = types.PublishBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), Message: aws.String(string(body)),
						MessageAttributes: map[string]types.MessageAttributeValue{"Category": {DataType: aws.String("String"), StringValue: aws.String("Memo")}}}
				}
				out, err := client.PublishBatch(context.Background(), &awssns.PublishBatchInput{TopicArn: aws.String(prefixARN + "topic"), PublishBatchRequestEntries: entries})
				if err != nil || len(out.Failed) > 0 {
					panic(err)
				}
			}
		})
	}
	all.Wait()
}

func ours(c *awstest.Canned, n, window int) {
	q := swarm.Must(sns.Emitter().WithConfig(c.Config()).WithKernel(quiet, swarm.WithEmitWindow(window)).Build(prefixARN + "topic"))
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
