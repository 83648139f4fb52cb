package serverless_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/qtest/local/lambda"
	"github.com/fogfish/swarm/qtest/localstack"
)

// cloud is LocalStack, with an account of our own.
type cloud struct {
	testing.TB
	client *sqs.Client
	env    []string // of processes
}

func connect(t testing.TB) *cloud {
	t.Helper()
	endpoint, account := localstack.Endpoint(t), localstack.Account("examples/serverless")
	return &cloud{t,
		sqs.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider(account, "test", "")}),
		[]string{"LOCALSTACK_ENDPOINT=" + endpoint, "AWS_ACCESS_KEY_ID=" + account, "AWS_SECRET_ACCESS_KEY=test"},
	}
}

// queue is one of the cloud.
type queue struct {
	*cloud
	name string
	url  *string
}

func (c *cloud) queue(suffix string, attributes map[string]string) *queue {
	c.Helper()
	name := fmt.Sprintf("serverless-%d%s", time.Now().UnixNano(), suffix)
	made, err := c.client.CreateQueue(c.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		_, _ = c.client.DeleteQueue(context.WithoutCancel(c.Context()), &sqs.DeleteQueueInput{QueueUrl: made.QueueUrl})
	})
	return &queue{c, name, made.QueueUrl}
}

func (q *queue) attributes() map[string]string {
	q.Helper()
	got, err := q.client.GetQueueAttributes(q.Context(), &sqs.GetQueueAttributesInput{QueueUrl: q.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		q.Fatal(err)
	}
	return got.Attributes
}

// depth is how many messages it has, and how many of these nobody else may see. It is
// approximate: a message that is just being received may be in neither.
func (q *queue) depth() string {
	q.Helper()
	got := q.attributes()
	return got["ApproximateNumberOfMessages"] + "+" + got["ApproximateNumberOfMessagesNotVisible"]
}

// count is how many messages wait in it.
func (q *queue) count() int {
	q.Helper()
	n, err := strconv.Atoi(q.attributes()["ApproximateNumberOfMessages"])
	if err != nil {
		q.Fatal(err)
	}
	return n
}

// send returns the id of the message.
func (q *queue) send(category, group, body string) string {
	q.Helper()
	in := &sqs.SendMessageInput{QueueUrl: q.url, MessageBody: &body}
	if category != "" {
		in.MessageAttributes = map[string]types.MessageAttributeValue{"Category": {DataType: aws.String("String"), StringValue: &category}}
	}
	if group != "" {
		in.MessageGroupId = &group
	}
	out, err := q.client.SendMessage(q.Context(), in)
	if err != nil {
		q.Fatal(err)
	}
	return *out.MessageId
}

// mapped runs a main as a function of the queue.
func (q *queue) mapped(name string, env ...string) *running {
	q.Helper()
	return q.mappedAs(name, lambda.Function{Env: env, Instances: 2, Freeze: true})
}

// mappedAs is mapped with a setting of the function.
func (q *queue) mappedAs(name string, fn lambda.Function) *running {
	q.Helper()
	fn.Env, fn.Timeout = append(fn.Env, q.env...), 3*time.Second
	r := example(q, name, fn)
	m, err := lambda.SQS{Queue: q.name, ReportBatchItemFailures: true, Log: r.log}.Start(q.Context(), q.client, r.Runtime)
	if err != nil {
		q.Fatal(err)
	}
	q.Cleanup(m.Close)
	return r
}

// The whole way: each message is processed once, or is in the dead-letter queue; each
// sign-up is welcomed once.
func TestAFunctionOfAQueue(t *testing.T) {
	t.Parallel()
	c := connect(t)
	dead, welcomes := c.queue("-dead", nil), c.queue("-welcomes", nil)
	source := c.queue("", map[string]string{"VisibilityTimeout": "3", "RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":2}`, dead.attributes()["QueueArn"])})

	var good, poison []string
	for i := range 20 {
		good = append(good, source.send("Note", "", fmt.Sprintf(`{"text":"note %d"}`, i)))
		good = append(good, source.send("User", "", fmt.Sprintf(`{"meta":{"id":"u-%d"},"data":{"name":"user %d"}}`, i, i)))
		good = append(good, source.send("Image", "", fmt.Sprintf("picture %d", i)))
	}
	poison = append(poison,
		source.send("Note", "", `{"text":""}`),
		source.send("Note", "", `{`),
		source.send("Unheard", "", `{}`),
		source.send("", "", `{}`))
	// The client of the SDK sends again when it misses an answer, so that there may be more
	// than we know of.
	sent := source.count()
	fn := source.mapped("sqs", "CONFIG_SWARM_TARGET_SQS="+welcomes.name)
	processed := func(what string) []string { return fn.log.find(`(?m) (?:` + what + `) ([0-9a-f-]{36})\b.*$`) }
	soon(t, "all is processed or dead", func() bool {
		return source.depth() == "0+0" && len(processed("note|sign-up|image"))+dead.count() >= sent
	})

	seen := processed("note|sign-up|image")
	slices.Sort(seen)
	if n := len(slices.Compact(slices.Clone(seen))); n != len(seen) || n+dead.count() != sent {
		t.Errorf("of %d messages %d were processed, %d more than once, and %d are dead", sent, n, len(seen)-n, dead.count())
	}
	for _, id := range good {
		if _, ok := slices.BinarySearch(seen, id); !ok {
			t.Errorf("%s was not processed", id)
		}
	}
	if got, want := welcomes.count(), len(processed("sign-up")); got != want {
		t.Errorf("%d welcomes, want %d", got, want)
	}
	for _, id := range poison {
		if slices.Contains(seen, id) {
			t.Errorf("%s was processed", id)
		}
	}
	if s := fn.Stats(); s.Crashes+s.Timeouts+s.Errors > 0 {
		t.Errorf("got %+v", s)
	}
}

// RetryAfter brings a message back when the consumer wants it, long before the queue would.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	source := connect(t).queue("", map[string]string{"VisibilityTimeout": "600"})
	at := time.Now().Add(2 * time.Second)
	id := source.send("Note", "", string(encode(map[string]any{"text": "later", "notBefore": at})))
	other := source.send("Note", "", `{"text":"now"}`)
	fn := source.mapped("sqs")
	soon(t, "both are processed", func() bool { return len(fn.log.find(`(note [0-9a-f-]{36}) `)) >= 2 && source.depth() == "0+0" })
	if got := fn.log.find(`note ([0-9a-f-]{36} "now", attempt 1)`); !slices.Contains(got, other+` "now", attempt 1`) {
		t.Errorf("got %q", got)
	}
	if got := fn.log.find(`note ([0-9a-f-]{36}) "later", attempt [23]`); !slices.Contains(got, id) || time.Now().Before(at) {
		t.Errorf("got %q", got)
	}
}

// FIFO: a group stays in order over a failure, which does not stop other groups.
func TestAFunctionOfAFIFOQueue(t *testing.T) {
	t.Parallel()
	source := connect(t).queue(".fifo", map[string]string{"VisibilityTimeout": "3", "FifoQueue": "true", "ContentBasedDeduplication": "true"})
	const each = 12
	var want []string
	for i := range each {
		note := map[string]any{"text": fmt.Sprintf("a %02d", i)}
		if i == 3 {
			note["notBefore"] = time.Now().Add(12 * time.Second) // longer than a busy machine takes to get there
		}
		source.send("Note", "a", string(encode(note)))
		source.send("Note", "b", fmt.Sprintf(`{"text":"b %02d"}`, i))
		want = append(want, fmt.Sprintf("%02d", i))
	}
	fn := source.mapped("sqs")
	soon(t, "all are processed", func() bool { return len(fn.log.find(`(note [0-9a-f-]{36}) `)) >= 2*each && source.depth() == "0+0" })
	for _, group := range []string{"a", "b"} {
		if got := fn.log.find(`note [0-9a-f-]{36} "` + group + ` (\d\d)"`); !slices.Equal(got, want) {
			t.Errorf("group %s: %v", group, got)
		}
	}
	if len(fn.log.find(`"(a 03)", attempt [2-9]`)) != 1 {
		t.Error("the early note was not repeated")
	}
}

// The same mains as services, on queues: they poll, and drain on SIGTERM.
func TestServices(t *testing.T) {
	notification := func(category, message string) string {
		return string(encode(map[string]any{
			"Type": "Notification", "MessageId": "n-1", "TopicArn": "arn:aws:sns:us-east-1:000000000000:topic", "Message": message, "Timestamp": "2026-11-24T10:00:00.000Z",
			"SignatureVersion": "1", "Signature": "EXAMPLE", "SigningCertURL": "https://sns.us-east-1.amazonaws.com/x.pem", "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/",
			"MessageAttributes": map[string]any{"Category": map[string]string{"Type": "String", "Value": category}},
		}))
	}
	type message struct{ category, body string }
	for name, x := range map[string]struct {
		messages []message
		prints   []string
	}{
		"sqs": {
			[]message{{"Note", `{"text":"hello"}`}, {"User", `{"data":{"name":"ada"}}`}, {"Image", "picture"}},
			[]string{`"hello"`, "of ada", "has 7 bytes"},
		},
		"eventbridge": {
			[]message{{"", putEvent("Note", object{"text": "hello"})}, {"", putEvent("User", object{"data": object{"name": "ada"}})}, {"", putEvent("Image", object{"p": "eA=="})}},
			[]string{`"hello"`, "of ada", "has 1 bytes"},
		},
		"sns": {
			[]message{{"", notification("Note", `{"text":"hello"}`)}, {"", notification("User", `{"data":{"name":"ada"}}`)}, {"", notification("Image", "picture")}},
			[]string{`"hello"`, "of ada", "has 7 bytes"},
		},
		"events3": {
			[]message{{"", `{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"photos"}`}, {"", string(lambda.S3Event(lambda.Object{Bucket: "photos", Key: "a b", Size: 7}))}},
			[]string{`ObjectCreated:Put "a b" of photos, 7 bytes`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := connect(t).queue("", nil)
			for _, m := range x.messages {
				source.send(m.category, "", m.body)
			}
			log := &journal{}
			cmd := exec.CommandContext(t.Context(), binary(t, name))
			cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "AWS_") }),
				append(source.env, "CONFIG_SWARM_SOURCE_SQS="+source.name)...)
			cmd.Stderr = log
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			read := make(chan struct{})
			go func() {
				defer close(read)
				for lines := bufio.NewScanner(stdout); lines.Scan(); {
					fmt.Fprintln(log, lines.Text())
				}
			}()
			soon(t, "all is processed", func() bool {
				return !slices.ContainsFunc(x.prints, func(line string) bool { return !strings.Contains(log.String(), line) }) && source.depth() == "0+0"
			})
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			<-read
			if err := cmd.Wait(); err != nil {
				t.Errorf("ended with %v:\n%s", err, log)
			}
		})
	}
}
