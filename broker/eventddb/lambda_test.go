package eventddb_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/eventddb"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/qtest"
)

// batch is an event with the changes of a shard.
func batch(images ...string) string {
	var list []string
	for i, image := range images {
		list = append(list, fmt.Sprintf(`{"eventID":"e%d","eventName":"INSERT","eventSource":"aws:dynamodb","dynamodb":{"ApproximateCreationDateTime":1479499740,"NewImage":%s,"SequenceNumber":"%d"},"eventSourceARN":"arn:x"}`, i, image, 100+i))
	}
	return `{"Records":[` + strings.Join(list, " , ") + `]}`
}

func user(name string) string { return `{"id":{"S":"` + name + `"},"name":{"S":"` + name + `"}}` }

func TestLambda(t *testing.T) {
	handler := make(chan lambda.Handler, 1)
	q, err := eventddb.Function(handler, swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithBarrier(swarm.NewBarrier()))
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := eventddb.Listen[User](q)
	var names []string
	go func() {
		for msg := range deq {
			user, err := msg.Object.New()
			if err == nil {
				names = append(names, user.Name)
				if user.Name == "bad" {
					err = errors.New("cannot have this one")
				}
			}
			if err != nil {
				ack <- msg.Fail(err)
				continue
			}
			if msg.ID != msg.Object.EventID || !msg.SentAt.Equal(msg.Object.Created) || msg.IOContext == nil {
				t.Errorf("got %+v", msg)
			}
			ack <- msg
		}
	}()
	go q.Run(context.Background())
	h := <-handler
	invoke := func(payload string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		given := []byte(payload)
		defer clear(given)
		out, err := h.Invoke(ctx, given)
		if err != nil {
			return "", err
		}
		var answer events.DynamoDBEventResponse
		if err := json.Unmarshal(out, &answer); err != nil || len(answer.BatchItemFailures) > 1 {
			t.Errorf("answers %s", out)
		}
		for _, f := range answer.BatchItemFailures {
			return f.ItemIdentifier, nil
		}
		return "", nil
	}
	for _, x := range []struct{ payload, failed, err string }{
		{batch(user("a"), user("b")), "", ""},
		{batch(), "", ""},
		{batch(user("c"), user("bad"), user("not handed over")), "101", ""},
		{batch(user("d"), `{"id":{"X":"?"}}`, user("not handed over")), "101", ""}, // a type that nobody knows
		{batch(user("e"), `7`, user("not handed over")), "101", ""},
		{strings.Replace(batch(user("f"), user("x")), `"INSERT"`, `"DROP"`, 1), "100", ""},
		{strings.Replace(batch(user("g")), `"SequenceNumber":"100"`, `"SequenceNumber":""`, 1), "", "no SequenceNumber"},
		{`{"Records":[{}]}`, "", "no SequenceNumber"},
		{`{"Records":[7]}`, "", "not an event"}, {`{"Records":7}`, "", "not an event"}, {`{}`, "", "no Records"},
		{`7`, "", "not an event"}, {``, "", "not an event"}, {`null`, "", "not an event"}, {`{"Records":[`, "", "not an event"},
	} {
		failed, err := invoke(x.payload)
		if failed != x.failed || (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%.60s: failed %q, %v; want %q, %q", x.payload, failed, err, x.failed, x.err)
		}
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(names, ","); got != "a,b,c,bad,d,e" {
		t.Errorf("handed over %s", got)
	}
}

func TestBuild(t *testing.T) {
	q, err := eventddb.Listener().WithLambda().WithKernel(swarm.WithTimeToFlight(time.Second)).Build("users")
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

type runner interface {
	io.Closer
	driver.Runner
	driver.Limiter
}

// imaged is a driver whose records stand for what is in their images.
type imaged struct{ runner }

func (d imaged) Run(ctx context.Context, serve driver.Serve) error {
	return d.runner.Run(ctx, func(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
		for i := range bags {
			c, err := eventddb.Decode[map[string]string](bags[i].Body)
			if err != nil {
				return nil, err
			}
			item, err := c.New()
			if err != nil {
				return nil, err
			}
			body, err := hex.DecodeString(item["body"])
			if err != nil {
				return nil, err
			}
			bags[i].Category, bags[i].Body, bags[i].Group = item["category"], body, item["group"]
		}
		return serve(ctx, bags)
	})
}

// The conformance suite for functions. Groups stand for shards, of which a real batch has
// one; the answer of a stream is a place, so what is behind it has failed as well.
func TestFunctionConformance(t *testing.T) {
	qtest.RunFunction(t, func(qtest.T) qtest.Function {
		handler := make(chan lambda.Handler, 1)
		invoke := func(ctx context.Context, payload string) ([]byte, error) {
			h := <-handler
			handler <- h
			given := []byte(payload)
			defer clear(given)
			return h.Invoke(ctx, given)
		}
		return qtest.Function{
			Connect: func() (io.Closer, error) { return imaged{eventddb.FunctionDriver(handler).(runner)}, nil },
			Invoke: func(ctx context.Context, bags []driver.Bag) ([]int, error) {
				var images []string
				for _, bag := range bags {
					image, err := eventddb.Image(map[string]string{"category": bag.Category, "group": bag.Group, "body": hex.EncodeToString(bag.Body)})
					if err != nil {
						return nil, err
					}
					images = append(images, string(image))
				}
				out, err := invoke(ctx, batch(images...))
				if err != nil {
					return nil, err
				}
				var answer events.DynamoDBEventResponse
				if err := json.Unmarshal(out, &answer); err != nil {
					return nil, err
				}
				var failed []int
				for _, f := range answer.BatchItemFailures {
					first, err := strconv.Atoi(f.ItemIdentifier)
					if err != nil {
						return nil, err
					}
					for i := first - 100; i < len(bags); i++ {
						failed = append(failed, i)
					}
				}
				return failed, nil
			},
			Raw: func(ctx context.Context, payload []byte) error {
				_, err := invoke(ctx, string(payload))
				return err
			},
		}
	}, qtest.FunctionFeatures{Single: true})
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(batch(user("a"), `{"x":{"S":"\"}]"}}`)))
	f.Add([]byte(`{"Records":[{"dynamodb":{"SequenceNumber":"1"}}],"Records":[]}`))
	f.Add([]byte(`{"a\"b":[{"}":"{"}],"Records" : [ {"dynamodb" : {"SequenceNumber":"\u0031" } } ] }`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		bags, err := eventddb.Receive(payload)
		if err != nil || !json.Valid(payload) {
			return
		}
		// What encoding/json makes of it.
		var in struct {
			Records []json.RawMessage
		}
		d := json.NewDecoder(strings.NewReader(string(payload)))
		if d.Decode(&in) != nil || len(in.Records) != len(bags) {
			return // members twice, or in another spelling
		}
		for i, raw := range in.Records {
			if string(raw) != string(bags[i].Body) {
				t.Fatalf("record %d of %q is %q, want %q", i, payload, bags[i].Body, raw)
			}
		}
	})
}
