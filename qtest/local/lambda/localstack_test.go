package lambda_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/qtest/local/lambda"
	"github.com/fogfish/swarm/qtest/localstack"
)

// connect is the configuration for LocalStack, with an account of our own.
func connect(t *testing.T) aws.Config {
	t.Helper()
	endpoint := localstack.Endpoint(t)
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(endpoint),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(localstack.Account("qtest/local"), "test", "")))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func uniqueName(suffix string) string {
	return fmt.Sprintf("local-%d%s", time.Now().UnixNano(), suffix)
}

// soon polls for a condition that takes requests to look at.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func makeQueue(t *testing.T, client *sqs.Client, suffix string, attributes map[string]string) (name, url string) {
	t.Helper()
	name = uniqueName(suffix)
	made, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = client.DeleteQueue(context.WithoutCancel(t.Context()), &sqs.DeleteQueueInput{QueueUrl: made.QueueUrl})
	})
	return name, *made.QueueUrl
}

// depth is how many messages the queue has, visible or not.
func depth(t *testing.T, client *sqs.Client, url string) string {
	t.Helper()
	got, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		t.Fatal(err)
	}
	return got.Attributes["ApproximateNumberOfMessages"] + "+" + got.Attributes["ApproximateNumberOfMessagesNotVisible"]
}

// TestSQSOnLocalStack: a message that fails once comes back after its visibility
// timeout, one that always fails goes to the dead-letter queue, the others are deleted.
func TestSQSOnLocalStack(t *testing.T) {
	client := sqs.NewFromConfig(connect(t))
	_, dead := makeQueue(t, client, "-dead", nil)
	arn, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &dead, AttributeNames: []types.QueueAttributeName{"QueueArn"}})
	if err != nil {
		t.Fatal(err)
	}
	name, url := makeQueue(t, client, "", map[string]string{"VisibilityTimeout": "2",
		"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":2}`, arn.Attributes["QueueArn"])})

	var mu sync.Mutex
	seen := map[string]int{}
	last := map[string]time.Time{}
	first := map[string]events.SQSMessage{}
	m, err := lambda.SQS{Queue: name, BatchSize: 5, ReportBatchItemFailures: true}.Start(t.Context(), client, lambda.Func(func(_ context.Context, payload []byte) ([]byte, error) {
		var e events.SQSEvent
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, err
		}
		var failed events.SQSEventResponse
		mu.Lock()
		defer mu.Unlock()
		for _, r := range e.Records {
			if seen[r.Body]++; seen[r.Body] == 1 {
				first[r.Body] = r
			} else if d := time.Since(last[r.Body]); d < 1900*time.Millisecond {
				t.Errorf("%s came back after %s", r.Body, d)
			}
			last[r.Body] = time.Now()
			if r.Body == "never" || r.Body == "second" && seen[r.Body] == 1 {
				failed.BatchItemFailures = append(failed.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: r.MessageId})
			}
		}
		return json.Marshal(failed)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, body := range []string{"never", "second", "a", "b", "c", "d", "e"} {
		if _, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String(body), MessageAttributes: map[string]types.MessageAttributeValue{
			"Category": {DataType: aws.String("String"), StringValue: aws.String("Note")}, "Raw": {DataType: aws.String("Binary"), BinaryValue: []byte{0, 1}}}}); err != nil {
			t.Fatal(err)
		}
	}
	soon(t, "all but one processed, that one in the dead-letter queue", func() bool {
		return depth(t, client, url) == "0+0" && depth(t, client, dead) == "1+0"
	})
	mu.Lock()
	defer mu.Unlock()
	for body, n := range map[string]int{"never": 2, "second": 2, "a": 1, "b": 1, "c": 1, "d": 1, "e": 1} {
		if seen[body] != n {
			t.Errorf("%s seen %d times", body, seen[body])
		}
	}
	r := first["a"]
	if r.Attributes["ApproximateReceiveCount"] != "1" || r.Attributes["SentTimestamp"] == "" || *r.MessageAttributes["Category"].StringValue != "Note" ||
		!slices.Equal(r.MessageAttributes["Raw"].BinaryValue, []byte{0, 1}) || r.EventSource != "aws:sqs" || !strings.HasSuffix(r.EventSourceARN, ":"+name) || r.AWSRegion != "us-east-1" ||
		r.Md5OfBody == "" || r.ReceiptHandle == "" {
		t.Errorf("got %+v", r)
	}
}

func TestSQSFIFOOnLocalStack(t *testing.T) {
	client := sqs.NewFromConfig(connect(t))
	name, url := makeQueue(t, client, ".fifo", map[string]string{"VisibilityTimeout": "2", "FifoQueue": "true", "ContentBasedDeduplication": "true"})
	var mu sync.Mutex
	var order []string
	failed := false
	m, err := lambda.SQS{Queue: name, BatchSize: 4, ReportBatchItemFailures: true}.Start(t.Context(), client, lambda.Func(func(_ context.Context, payload []byte) ([]byte, error) {
		var e events.SQSEvent
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		var response events.SQSEventResponse
		stopped := map[string]bool{}
		for _, r := range e.Records {
			if r.Body == "a3" && !failed {
				failed, stopped["a"] = true, true
			}
			if stopped[r.Attributes["MessageGroupId"]] {
				response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: r.MessageId})
				continue
			}
			order = append(order, r.Body)
		}
		return json.Marshal(response)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range 8 {
		for _, group := range []string{"a", "b"} {
			if _, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String(fmt.Sprint(group, i)), MessageGroupId: aws.String(group)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	soon(t, "all processed", func() bool { return depth(t, client, url) == "0+0" })
	mu.Lock()
	defer mu.Unlock()
	for _, group := range []string{"a", "b"} {
		got := slices.DeleteFunc(slices.Clone(order), func(body string) bool { return !strings.HasPrefix(body, group) })
		if len(got) != 8 || !slices.IsSorted(got) {
			t.Errorf("group %s: %v", group, got)
		}
	}
	if !failed {
		t.Error("a3 did not fail")
	}
}

// TestRealFunctionOnLocalStack: the whole way, from a queue to a process and back.
func TestRealFunctionOnLocalStack(t *testing.T) {
	client := sqs.NewFromConfig(connect(t))
	name, url := makeQueue(t, client, "", map[string]string{"VisibilityTimeout": "30"})
	fn := start(t, "plain", lambda.Function{Instances: 2, Freeze: true})
	m, err := lambda.SQS{Queue: name}.Start(t.Context(), client, fn)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range 20 {
		if _, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	soon(t, "all processed", func() bool { return depth(t, client, url) == "0+0" })
	m.Close()
	if s, f := m.Stats(), fn.Stats(); s.Records != 20 || s.FailedRecords != 0 || s.Throttles != 0 || f.Invocations != s.Batches || f.Errors != 0 || f.ColdStarts > 2 {
		t.Errorf("got %+v and %+v", s, f)
	}
}

func TestDynamoDBStreamOnLocalStack(t *testing.T) {
	cfg := connect(t)
	db, table := dynamodb.NewFromConfig(cfg), uniqueName("")
	if _, err := lambda.DynamoDBStream(t.Context(), dynamodbstreams.NewFromConfig(cfg), table); err == nil || !strings.Contains(err.Error(), table) {
		t.Errorf("got %v", err)
	}
	if _, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{TableName: &table, BillingMode: dynamodbtypes.BillingModePayPerRequest,
		AttributeDefinitions: []dynamodbtypes.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: dynamodbtypes.ScalarAttributeTypeS}},
		KeySchema:            []dynamodbtypes.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: dynamodbtypes.KeyTypeHash}},
		StreamSpecification:  &dynamodbtypes.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: dynamodbtypes.StreamViewTypeNewAndOldImages},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = db.DeleteTable(context.WithoutCancel(t.Context()), &dynamodb.DeleteTableInput{TableName: &table})
	})
	source, err := lambda.DynamoDBStream(t.Context(), dynamodbstreams.NewFromConfig(cfg), table)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []events.DynamoDBEventRecord
	failed := false
	m, err := lambda.Stream{BatchSize: 4, ReportBatchItemFailures: true}.Start(t.Context(), source, lambda.Func(func(_ context.Context, payload []byte) ([]byte, error) {
		var e events.DynamoDBEvent
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, r := range e.Records {
			if n := r.Change.NewImage["n"]; !failed && !n.IsNull() && n.Number() == "3" {
				failed = true
				return json.Marshal(events.DynamoDBEventResponse{BatchItemFailures: []events.DynamoDBBatchItemFailure{{ItemIdentifier: r.Change.SequenceNumber}}})
			}
			got = append(got, r)
		}
		return nil, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	item := func(n int) map[string]dynamodbtypes.AttributeValue {
		return map[string]dynamodbtypes.AttributeValue{
			"id": &dynamodbtypes.AttributeValueMemberS{Value: "one"}, "n": &dynamodbtypes.AttributeValueMemberN{Value: fmt.Sprint(n)},
			"b": &dynamodbtypes.AttributeValueMemberB{Value: []byte{0, 1}}, "yes": &dynamodbtypes.AttributeValueMemberBOOL{Value: true},
			"null": &dynamodbtypes.AttributeValueMemberNULL{Value: true}, "ss": &dynamodbtypes.AttributeValueMemberSS{Value: []string{"x", "y"}},
			"ns": &dynamodbtypes.AttributeValueMemberNS{Value: []string{"1"}}, "bs": &dynamodbtypes.AttributeValueMemberBS{Value: [][]byte{{2}}},
			"l": &dynamodbtypes.AttributeValueMemberL{Value: []dynamodbtypes.AttributeValue{&dynamodbtypes.AttributeValueMemberS{Value: "z"}}},
			"m": &dynamodbtypes.AttributeValueMemberM{Value: map[string]dynamodbtypes.AttributeValue{"k": &dynamodbtypes.AttributeValueMemberS{Value: "v"}}},
		}
	}
	for n := range 6 {
		if _, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: map[string]dynamodbtypes.AttributeValue{"id": item(0)["id"]}}); err != nil {
		t.Fatal(err)
	}
	soon(t, "all changes", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) >= 7
	})
	mu.Lock()
	defer mu.Unlock()
	var names []string
	for i, r := range got {
		names = append(names, r.EventName)
		if r.EventSource != "aws:dynamodb" || r.EventSourceArn != source.ARN() || r.EventID == "" || r.Change.StreamViewType != "NEW_AND_OLD_IMAGES" ||
			r.Change.Keys["id"].String() != "one" || time.Since(r.Change.ApproximateCreationDateTime.Time) > time.Hour {
			t.Errorf("got %+v", r)
		}
		if i < 6 {
			image := r.Change.NewImage
			if image["n"].Number() != fmt.Sprint(i) || image["b"].Binary()[1] != 1 || !image["yes"].Boolean() || !image["null"].IsNull() || len(image["ss"].StringSet()) != 2 ||
				image["ns"].NumberSet()[0] != "1" || image["bs"].BinarySet()[0][0] != 2 || image["l"].List()[0].String() != "z" || image["m"].Map()["k"].String() != "v" {
				t.Errorf("got %+v", image)
			}
		}
	}
	if want := "INSERT MODIFY MODIFY MODIFY MODIFY MODIFY REMOVE"; strings.Join(names, " ") != want || !failed {
		t.Errorf("got %v, failed %v", names, failed)
	}
}
