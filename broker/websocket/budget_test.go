package websocket_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
)

// Memo is what the benchmark sends: 1 KiB of JSON, to one of a hundred connections.
type Memo struct {
	To   string `json:"-"`
	Text string `json:"text"`
}

func memo(i int) Memo {
	return Memo{To: fmt.Sprintf("c%d=", i%100), Text: strings.Repeat("x", 1024-11)}
}

func canned() *awstest.Canned {
	return &awstest.Canned{
		Protocol: awstest.Protocol{ContentType: "application/json", Operation: func(*http.Request, []byte) string { return "PostToConnection" }},
		Answer:   func(string, []byte) string { return "" },
	}
}

const local = "http://127.0.0.1/prod"

// raw is the loop people write by hand, by as many goroutines as there are to be requests in
// flight.
func raw(c *awstest.Canned, n, inflight int) {
	client := apigatewaymanagementapi.NewFromConfig(c.Config(), func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = aws.String(local) })
	var all sync.WaitGroup
	for g := range inflight {
		all.Go(func() {
			for i := range n / inflight {
				m := memo(i*inflight + g)
				body, err := json.Marshal(m)
				if err != nil {
					panic(err)
				}
				if _, err := client.PostToConnection(context.Background(), &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &m.To, Data: body}); err != nil {
					panic(err)
				}
			}
		})
	}
	all.Wait()
}

func ours(c *awstest.Canned, n, window int) {
	q := swarm.Must(websocket.Emitter().WithConfig(c.Config()).WithKernel(quiet, swarm.WithEmitWindow(window)).Build(local))
	enq, _ := emit.Typed[Memo](q, websocket.SinkBy(func(m Memo) string { return m.To }))
	for i := range n {
		enq <- memo(i)
	}
	close(enq)
	if err := q.Close(); err != nil {
		panic(err)
	}
}

func BenchmarkBudgetSend(b *testing.B) {
	for _, x := range []struct{ inflight, n int }{{1, 400}, {16, 6400}} {
		b.Run(fmt.Sprintf("inflight=%d", x.inflight), func(b *testing.B) {
			c := canned()
			c.Compare(b, x.n, 1, func() { raw(c, x.n, x.inflight) }, func() { ours(c, x.n, x.inflight) })
		})
	}
}
