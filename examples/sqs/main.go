// SQS sends notes, an event and an image through a queue of AWS SQS, consumes them,
// refuses one once, and prints a ledger that adds up. It makes a queue of its own, and
// deletes it in the end.
//
//	make localstack                      # in another terminal; it prints the next line
//	export LOCALSTACK_ENDPOINT=http://…
//	go run ./examples/sqs
//
// AWS_ENDPOINT_URL serves as well. With neither of them it talks to AWS itself, by your
// credentials. Press Ctrl-C in the middle: it drains, and the ledger still adds up.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// Note is what we send: any Go type that encodes as JSON.
type Note struct {
	Page int    `json:"page"`
	Text string `json:"text"`
}

// SignUp is an event: data, and metadata beside it.
type SignUp = swarm.Event[swarm.Meta, User]

// User is the data of the event.
type User struct {
	Name string `json:"name"`
}

// image is no text: it travels as base64, which nobody has to know.
var image = []byte("\x89PNG\r\n\x1a\n")

// ledger of the program, to be held against what the queue has in the end.
type ledger struct {
	sent, undelivered, processed, failed, twice atomic.Int64

	open sync.WaitGroup // values that are neither processed nor undelivered
	seen sync.Map       // ids of messages that were processed
}

func (l *ledger) begin() { l.sent.Add(1); l.open.Add(1) }

func (l *ledger) end(as *atomic.Int64) { as.Add(1); l.open.Done() }

// answer of a synchronous send: nil when SQS has the message.
func (l *ledger) answer(err error) {
	if err != nil {
		fmt.Println("undelivered:", err)
		l.end(&l.undelivered)
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sqs:", err)
		os.Exit(1)
	}
}

func run() error {
	// A queue, by the client of the SDK: swarm makes none.
	ctx := context.Background()
	cfg, err := configuration(ctx)
	if err != nil {
		return err
	}
	client := awssqs.NewFromConfig(cfg)
	name := fmt.Sprint("swarm-example-", time.Now().UnixNano())
	queue, err := client.CreateQueue(ctx, &awssqs.CreateQueueInput{QueueName: &name})
	if err != nil {
		return err
	}
	defer client.DeleteQueue(ctx, &awssqs.DeleteQueueInput{QueueUrl: queue.QueueUrl})

	// A kernel on it that sends and receives.
	q, err := sqs.Endpoint().
		WithConfig(cfg).
		WithKernel(
			swarm.WithSource("examples/sqs"), // the agent of what we send
			swarm.WithEmitWindow(10),         // up to 10 notes in a request
		).
		Build(name)
	if err != nil {
		return err
	}

	// To send: a channel for notes, calls for the rest. A note that is not delivered goes
	// to the log, and is told to us here.
	var l ledger
	notes := swarm.LogDeadLetters(emit.Typed[Note](q, emit.OnFailure(func(Note, error) { l.end(&l.undelivered) })))
	signUps := emit.NewEvent[SignUp](q)
	images := emit.NewBytes(q, codec.Bytes("Image"))

	// To receive: a pair of channels for each category.
	var work sync.WaitGroup
	noteDeq, noteAck := listen.Typed[Note](q)
	work.Go(func() {
		consume(&l, noteDeq, noteAck, func(msg swarm.Msg[Note]) error {
			if msg.Object.Page == 3 && msg.Attempt == 1 {
				return errors.New("not today")
			}
			fmt.Printf("note    %q, page %d, attempt %d\n", msg.Object.Text, msg.Object.Page, msg.Attempt)
			return nil
		})
	})
	signUpDeq, signUpAck := listen.Event[SignUp](q)
	work.Go(func() {
		consume(&l, signUpDeq, signUpAck, func(msg swarm.Msg[SignUp]) error {
			fmt.Printf("event   %s signed up, says %s\n", msg.Object.Data.Name, msg.Object.Meta.Agent)
			return nil
		})
	})
	imageDeq, imageAck := listen.Bytes(q, codec.Bytes("Image"))
	work.Go(func() {
		consume(&l, imageDeq, imageAck, func(msg swarm.Msg[[]byte]) error {
			fmt.Printf("bytes   %q\n", msg.Object)
			return nil
		})
	})

	// The producer. When all it has sent is accounted for, the program ends.
	work.Go(func() {
		defer close(notes)
		for page := 1; page <= 5; page++ {
			l.begin()
			select {
			case notes <- Note{Page: page, Text: "a note"}:
			case <-q.Done(): // Ctrl-C
				l.end(&l.undelivered)
				return
			}
		}
		l.begin()
		l.answer(signUps.Enq(ctx, SignUp{Data: &User{Name: "ada"}}))
		l.begin()
		l.answer(images.Enq(ctx, image))
		go func() {
			l.open.Wait()
			q.Close() // Await answers the same
		}()
	})

	err = q.Await() // until then, or until SIGTERM or Ctrl-C
	work.Wait()
	n, unknown := left(ctx, client, queue.QueueUrl)
	return errors.Join(err, unknown, l.print(n))
}

// consume processes messages until the kernel is closed. What fails comes again: at once
// the first time, then later and later. A queue that is not FIFO may also deliver a
// message twice.
func consume[T any](l *ledger, deq <-chan swarm.Msg[T], ack chan<- swarm.Msg[T], process func(swarm.Msg[T]) error) {
	for msg := range deq {
		if _, again := l.seen.Load(msg.ID); again {
			l.twice.Add(1)
			ack <- msg
			continue
		}
		if err := process(msg); err != nil {
			l.failed.Add(1)
			ack <- msg.Fail(err)
			continue
		}
		l.seen.Store(msg.ID, true)
		l.end(&l.processed)
		ack <- msg
	}
}

func (l *ledger) print(left int64) error {
	fmt.Printf(`
sent        %5d
processed   %5d
in queue    %5d
undelivered %5d
failed      %5d   and came again
twice       %5d
`, l.sent.Load(), l.processed.Load(), left, l.undelivered.Load(), l.failed.Load(), l.twice.Load())
	if sum := l.processed.Load() + left + l.undelivered.Load(); sum != l.sent.Load() {
		return fmt.Errorf("the ledger does not add up: sent %d, accounted for %d", l.sent.Load(), sum)
	}
	fmt.Println("the ledger adds up")
	return nil
}

// left counts the messages of a queue: those that wait, and those under a lease.
func left(ctx context.Context, client *awssqs.Client, url *string) (n int64, err error) {
	names := []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages,
		types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
	}
	out, err := client.GetQueueAttributes(ctx, &awssqs.GetQueueAttributesInput{QueueUrl: url, AttributeNames: names})
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		count, err := strconv.ParseInt(out.Attributes[string(name)], 10, 64)
		if err != nil {
			return 0, err
		}
		n += count
	}
	return n, nil
}

// configuration is that of LocalStack, if the environment says where it is; else that of
// AWS.
func configuration(ctx context.Context) (aws.Config, error) {
	if endpoint := cmp.Or(os.Getenv("LOCALSTACK_ENDPOINT"), os.Getenv("AWS_ENDPOINT_URL")); endpoint != "" {
		return aws.Config{
			Region:       "us-east-1",
			BaseEndpoint: &endpoint,
			Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		}, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err == nil && cfg.Region == "" {
		err = errors.New("no LOCALSTACK_ENDPOINT and no region of AWS: run `make localstack`, and export what it prints")
	}
	return cfg, err
}
