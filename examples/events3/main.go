// Events3 puts objects into a bucket of AWS S3, and a service is told of each. By a flag the
// bucket tells a queue, a topic that the queue subscribes to, or EventBridge, whose rule has
// the queue as its target: the service gets the same records, and only opens other envelopes.
//
//	make localstack                      # in another terminal; it prints the next line
//	export LOCALSTACK_ENDPOINT=http://…
//	go run ./examples/events3 [-route queue|topic|bus]
//
// Without LOCALSTACK_ENDPOINT it talks to AWS itself, by your credentials. Press Ctrl-C in
// the middle: it drains, and the ledger still adds up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/fogfish/swarm/broker/events3"
	"github.com/fogfish/swarm/broker/sqs"

	"github.com/fogfish/swarm/examples/internal/aws"
)

// keys of the objects. S3 encodes some of their characters, which nobody has to know; but
// LocalStack does so also on the way by EventBridge, where S3 does not.
var keys = []string{"in/a.txt", "in/a b+c/ä.txt", "in/100%/?&=.txt", "in/日本語.txt"}

func main() {
	route := flag.String("route", "queue", "how the bucket tells: queue, topic or bus")
	flag.Parse()
	if err := run(*route); err != nil {
		fmt.Fprintln(os.Stderr, "events3:", err)
		os.Exit(1)
	}
}

func run(route string) error {
	// A bucket, and a queue that is told of each object that is made in in/.
	ctx := context.Background()
	cfg, err := aws.Config(ctx)
	if err != nil {
		return err
	}
	queue, err := aws.NewQueue(ctx, cfg, aws.Name("swarm-example"))
	if err != nil {
		return err
	}
	defer queue.Delete(ctx)
	bucket, err := aws.NewBucket(ctx, cfg, aws.Name("swarm-example"))
	if err != nil {
		return err
	}
	defer bucket.Delete(ctx)
	listener := sqs.Listener().WithConfig(cfg)
	switch route {
	case "queue":
		err = bucket.NotifyQueue(ctx, queue, "in/")
		listener.WithUnwrap(sqs.S3)
	case "topic":
		var topic *aws.Topic
		if topic, err = aws.NewTopic(ctx, cfg, aws.Name("swarm-example")); err != nil {
			return err
		}
		defer topic.Delete(ctx)
		err = errors.Join(topic.Subscribe(ctx, queue, nil), bucket.NotifyTopic(ctx, topic, "in/"))
		listener.WithUnwrap(sqs.SNS, sqs.S3)
	case "bus":
		var bus *aws.Bus
		if bus, err = aws.NewBus(ctx, cfg, aws.DefaultBus); err != nil {
			return err
		}
		defer bus.Delete(ctx)
		pattern := fmt.Sprintf(`{"source": ["aws.s3"], "detail": {"bucket": {"name": [%q]}, "object": {"key": [{"prefix": "in/"}]}}}`, bucket.Name)
		err = errors.Join(bus.Rule(ctx, pattern, queue), bucket.NotifyEventBridge(ctx))
		listener.WithUnwrap(sqs.EventBridge, sqs.S3)
	default:
		err = fmt.Errorf("-route %s is none of queue, topic, bus", route)
	}
	if err != nil {
		return err
	}
	q, err := listener.Build(queue.Name)
	if err != nil {
		return err
	}

	// The service: one message for each record, whatever it came in.
	l := aws.NewLedger(queue)
	var work sync.WaitGroup
	deq, ack := events3.Listen(q)
	work.Go(func() {
		for msg := range deq {
			if msg.Object.Key == keys[0] && msg.Attempt == 1 {
				l.Failed()
				ack <- msg.Fail(errors.New("not today"))
				continue
			}
			fmt.Printf("%s  %q, %d bytes, attempt %d\n", msg.Object.Event, msg.Object.Key, msg.Object.Size, msg.Attempt)
			l.Processed(msg.ID)
			ack <- msg
		}
	})

	// Somebody puts objects. When the service has heard of all, the program ends.
	work.Go(func() {
		if err := bucket.Put(ctx, "out/nobody-is-told.txt", "…"); err != nil {
			fmt.Println("put:", err)
		}
		for _, key := range keys {
			select {
			case <-q.Done(): // Ctrl-C
				return
			default:
			}
			l.Begin()
			l.Answer(bucket.Put(ctx, key, "the object "+key))
		}
		go func() {
			l.Wait()
			q.Close() // Await answers the same
		}()
	})

	err = q.Await() // until then, or until SIGTERM or Ctrl-C
	work.Wait()
	return errors.Join(err, aws.Reconcile(ctx, l))
}
