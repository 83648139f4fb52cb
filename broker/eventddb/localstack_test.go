package eventddb_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fogfish/swarm/broker/eventddb"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/qtest/localstack"
)

var soak = os.Getenv("SOAK") != ""

// configuration of clients of LocalStack, in this package's account.
func configuration(endpoint string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider(localstack.Account("broker/eventddb"), "test", ""),
	}
}

var tables atomic.Int64

// create makes a table that goes with the test: of items by their id, with a stream, or of
// leases.
func create(t *testing.T, client *dynamodb.Client, leases bool) string {
	t.Helper()
	name := fmt.Sprintf("t-%d-%d", time.Now().UnixNano(), tables.Add(1))
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest}
	keys := []string{"id"}
	if leases {
		keys = []string{"stream", "shard"}
	} else {
		in.StreamSpecification = &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewAndOldImages}
	}
	for i, key := range keys {
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &key, AttributeType: types.ScalarAttributeTypeS})
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &key, KeyType: []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i]})
	}
	if _, err := client.CreateTable(t.Context(), in); err != nil {
		t.Fatalf("create table: %v", err)
	}
	t.Cleanup(func() {
		_, _ = client.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: &name})
	})
	return name
}

func TestTableStore(t *testing.T) {
	t.Parallel()
	client := dynamodb.NewFromConfig(configuration(localstack.Endpoint(t)))
	checkStore(t, eventddb.NewTable(client, create(t, client, true)))
	if _, err := eventddb.NewTable(client, "no-such-table").Load(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "no-such-table") {
		t.Errorf("got %v", err)
	}
}

// counter is an item that counts how often it was changed.
type counter struct {
	ID string `dynamodbav:"id"`
	N  int    `dynamodbav:"n"`
}

// change writes n changes of a table, of 20 items: puts, and now and then a removal.
func change(ctx context.Context, client *dynamodb.Client, table string, n int) error {
	r := rand.New(rand.NewPCG(1, 2))
	counts := map[string]int{}
	for n > 0 {
		batch := map[string]types.WriteRequest{} // an item once
		for range min(20, n) {
			id := fmt.Sprint("item", r.IntN(20))
			if _, twice := batch[id]; twice {
				continue
			}
			counts[id]++
			if counts[id] > 1 && counts[id]%7 == 0 {
				batch[id] = types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}}}}
				continue
			}
			item, err := attributevalue.MarshalMap(counter{id, counts[id]})
			if err != nil {
				return err
			}
			batch[id] = types.WriteRequest{PutRequest: &types.PutRequest{Item: item}}
		}
		var all []types.WriteRequest
		for _, x := range batch {
			all = append(all, x)
		}
		out, err := client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: all}})
		if err != nil {
			return err
		}
		if len(out.UnprocessedItems) > 0 {
			return fmt.Errorf("%d not processed", len(out.UnprocessedItems[table]))
		}
		n -= len(all)
	}
	return nil
}

// envVictim makes this binary a service that is to be killed: endpoint, table and file of
// the leases.
const envVictim = "SWARM_TEST_VICTIM"

func TestMain(m *testing.M) {
	if args := strings.Split(os.Getenv(envVictim), "|"); len(args) == 3 {
		if err := victim(args[0], args[1], args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// victim prints what it is handed over: kind, item, number, sequence.
func victim(endpoint, table, leases string) error {
	q, err := eventddb.Listener().WithConfig(configuration(endpoint)).WithStore(eventddb.NewFile(leases)).WithInstance("victim").WithLease(3*time.Second).
		WithKernel(swarm.WithPollFrequency(50*time.Millisecond), swarm.WithLogger(slog.New(slog.DiscardHandler))).Build(table)
	if err != nil {
		return err
	}
	deq, ack := eventddb.Listen[counter](q)
	go func() {
		for msg := range deq {
			c, n := msg.Object, 0
			key, err := c.Key()
			if err == nil && c.Kind != eventddb.Remove {
				var item counter
				item, err = c.New()
				n = item.N
			}
			if err != nil {
				fmt.Println("error", err)
				ack <- msg.Fail(err)
				continue
			}
			fmt.Println(c.Kind, key.ID, n, c.SequenceNumber)
			ack <- msg
		}
	}()
	return q.Await()
}

// A service is killed every second while its tables change: no change is lost, repeats come
// from the last checkpoint on, and each life sees the changes in their order.
func TestKilledServiceLosesNothing(t *testing.T) {
	t.Parallel()
	endpoint := localstack.Endpoint(t)
	client := dynamodb.NewFromConfig(configuration(endpoint))
	changes := 1700
	if soak {
		changes = 17_000
	}
	for i := range 3 {
		t.Run(fmt.Sprint("table ", i), func(t *testing.T) {
			t.Parallel()
			table := create(t, client, false)
			leases := filepath.Join(t.TempDir(), "leases.json")
			wrote := make(chan error, 1)
			go func() { wrote <- change(context.Background(), client, table, changes) }()

			seen := map[string]int{} // by sequence number, how often
			lives, repeats := 0, 0
			for deadline := time.Now().Add(10 * time.Minute); len(seen) < changes && time.Now().Before(deadline); lives++ {
				repeats += live(t, lives, endpoint, table, leases, seen, changes)
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			if len(seen) != changes {
				t.Errorf("%d of %d changes seen in %d lives", len(seen), changes, lives)
			}
			t.Logf("%d changes in %d lives, %d repeats", len(seen), lives, repeats)
		})
	}
}

// live is one life of the victim, which ends by SIGKILL after a second, or when all was
// seen. It returns how many changes it has seen again.
func live(t *testing.T, life int, endpoint, table, leases string, seen map[string]int, changes int) (repeats int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%s", envVictim, endpoint, table, leases))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	kill := func() { once.Do(func() { _ = cmd.Process.Kill() }) }
	var second *time.Timer // from its first sign of life
	last := ""             // of this life
	numbers := map[string]int{}
	lines := bufio.NewScanner(out)
	guard := time.AfterFunc(time.Minute, kill)
	for lines.Scan() {
		if second == nil {
			second = time.AfterFunc(time.Second, kill)
		}
		var kind, item, seq string
		var n int
		if _, err := fmt.Sscan(lines.Text(), &kind, &item, &n, &seq); err != nil {
			t.Errorf("life %d says %q", life, lines.Text())
			continue
		}
		order := fmt.Sprintf("%40s", seq)
		if order <= last {
			t.Errorf("life %d: %s comes after %s", life, seq, last)
		}
		last = order
		if kind != "remove" {
			if n <= numbers[item] {
				t.Errorf("life %d: %s is %d after %d", life, item, n, numbers[item])
			}
			numbers[item] = n
		}
		if seen[seq]++; seen[seq] > 1 {
			repeats++
		}
		if len(seen) >= changes {
			kill()
		}
	}
	guard.Stop()
	if second != nil {
		second.Stop()
	}
	kill()
	_ = cmd.Wait()
	return repeats
}

// Two instances on one table of leases: what one has done the other does not do again.
func TestInstancesOnATableOfLeases(t *testing.T) {
	t.Parallel()
	cfg := configuration(localstack.Endpoint(t))
	client := dynamodb.NewFromConfig(cfg)
	table, leases := create(t, client, false), create(t, client, true)
	if err := change(t.Context(), client, table, 100); err != nil {
		t.Fatal(err)
	}
	read := func(want int) {
		t.Helper()
		q, err := eventddb.Listener().WithConfig(cfg).WithStore(eventddb.NewTable(client, leases)).WithLease(3 * time.Second).
			WithKernel(swarm.WithPollFrequency(50 * time.Millisecond)).Build(table)
		if err != nil {
			t.Fatal(err)
		}
		deq, ack := eventddb.Records(q)
		go q.Run(context.Background())
		seen := map[string]bool{}
		guard := time.After(30 * time.Second)
		for len(seen) < want {
			select {
			case msg := <-deq:
				seen[msg.Object.SequenceNumber] = true
				ack <- msg
			case <-guard:
				t.Fatalf("%d of %d", len(seen), want)
			}
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
	read(100)
	if err := change(t.Context(), client, table, 30); err != nil {
		t.Fatal(err)
	}
	read(30)
}

// Items whose time to live is over are removed by DynamoDB itself, here when LocalStack is
// told to look. LocalStack does not sign such a removal as DynamoDB does, by a user identity:
// that is for TestKinds.
func TestExpiredItems(t *testing.T) {
	t.Parallel()
	endpoint := localstack.Endpoint(t)
	cfg := configuration(endpoint)
	client := dynamodb.NewFromConfig(cfg)
	table := create(t, client, false)
	if _, err := client.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{
		TableName: &table, TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("until"), Enabled: aws.Bool(true)},
	}); err != nil {
		t.Fatal(err)
	}
	type session struct {
		ID    string `dynamodbav:"id"`
		Until int64  `dynamodbav:"until"`
	}
	over, later := time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Hour).Unix()
	for i, until := range []int64{over, later, over, over, later} {
		item, err := attributevalue.MarshalMap(session{fmt.Sprint("s", i), until})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item}); err != nil {
			t.Fatal(err)
		}
	}
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, endpoint+"/_aws/dynamodb/expired", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("LocalStack answers %s", answer.Status)
	}

	q, err := eventddb.Listener().WithConfig(cfg).WithKernel(swarm.WithPollFrequency(50 * time.Millisecond)).Build(table)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	deq, ack := eventddb.Listen[session](q)
	go q.Run(context.Background())
	live := map[string]bool{}
	guard := time.After(30 * time.Second)
	for range 5 + 3 {
		select {
		case msg := <-deq:
			switch msg.Object.Kind {
			case eventddb.Insert:
				s, err := msg.Object.New()
				if err != nil {
					t.Error(err)
				}
				live[s.ID] = true
			case eventddb.Remove, eventddb.Expire:
				s, err := msg.Object.Old()
				if err != nil || s.Until != over {
					t.Errorf("removed: got %+v, %v", s, err)
				}
				delete(live, s.ID)
			default:
				t.Errorf("got a %s", msg.Object.Kind)
			}
			ack <- msg
		case <-guard:
			t.Fatalf("the changes do not come, so far: %v", live)
		}
	}
	if len(live) != 2 || !live["s1"] || !live["s4"] {
		t.Errorf("left are %v", live)
	}
}
