// Eventddb keeps a view of a table of AWS DynamoDB, from the stream of its changes, and a
// copy in another table. By itself it makes the tables, changes the first one while it
// watches, and compares the copy in the end:
//
//	make localstack                      # in another terminal; it prints the next line
//	export LOCALSTACK_ENDPOINT=http://…
//	go run ./examples/eventddb
//
// With a table it watches until Ctrl-C, and goes on where it stopped when it is started
// again: what it has seen is in a file beside it.
//
//	go run ./examples/eventddb -table users          # watch; makes the table if need be
//	go run ./examples/eventddb -table users -write   # in another terminal: change it
//
// The same program is a function of AWS Lambda: where AWS_LAMBDA_RUNTIME_API is set it
// serves invocations. On your machine:
//
//	go run ./qtest/local/cmd/swarm-local -table users ./examples/eventddb
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fogfish/swarm/broker/eventddb"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/examples/internal/aws"
)

// User is an item of the table.
type User struct {
	ID     string `dynamodbav:"id"`
	Visits int    `dynamodbav:"visits"`
}

func main() {
	table := flag.String("table", "", "the table; none: make some, and end when all changes were seen")
	write := flag.Bool("write", false, "change the table, instead of watching it")
	flag.Parse()
	if err := run(*table, *write); err != nil {
		fmt.Fprintln(os.Stderr, "eventddb:", err)
		os.Exit(1)
	}
}

func run(table string, write bool) error {
	ctx := context.Background()
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		q, err := eventddb.Listener().Build("")
		if err != nil {
			return err
		}
		watch(q, func(eventddb.Change[User]) error { return nil })
		return q.Await()
	}
	cfg, err := aws.Config(ctx)
	if err != nil {
		return err
	}
	client := dynamodb.NewFromConfig(cfg)
	if table == "" {
		return demo(ctx, client, cfg)
	}
	if err := create(ctx, client, table); err != nil {
		return err
	}
	if write {
		return change(ctx, client, table, 100, 200*time.Millisecond)
	}
	leases := filepath.Join(os.TempDir(), "swarm-example-"+table+".json")
	fmt.Println("watching", table, "- what was seen is in", leases)
	q, err := eventddb.Listener().WithConfig(cfg).WithStore(eventddb.NewFile(leases)).WithInstance("watcher").Build(table)
	if err != nil {
		return err
	}
	watch(q, func(eventddb.Change[User]) error { return nil })
	return q.Await() // until Ctrl-C or SIGTERM
}

// demo copies a table into another while it is changed.
func demo(ctx context.Context, client *dynamodb.Client, cfg awssdk.Config) error {
	const changes = 60
	source, target := aws.Name("swarm-example"), aws.Name("swarm-example")
	for _, table := range []string{source, target} {
		if err := create(ctx, client, table); err != nil {
			return err
		}
		defer client.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &table})
	}
	q, err := eventddb.Listener().WithConfig(cfg).
		WithKernel(swarm.WithPollFrequency(200 * time.Millisecond)).
		Build(source)
	if err != nil {
		return err
	}
	seen := 0
	watch(q, func(c eventddb.Change[User]) error {
		if err := replicate(ctx, client, target, c); err != nil {
			return err // it comes again, and nothing behind it comes before
		}
		if seen++; seen == changes {
			go q.Close() // Await answers the same
		}
		return nil
	})
	wrote := make(chan error, 1)
	go func() { wrote <- change(ctx, client, source, changes, 20*time.Millisecond) }()
	if err := errors.Join(q.Await(), <-wrote); err != nil {
		return err
	}
	have, err := items(ctx, client, source)
	if err != nil {
		return err
	}
	copied, err := items(ctx, client, target)
	if err != nil {
		return err
	}
	fmt.Printf("\nchanges %5d\nseen    %5d\nusers   %5d\ncopied  %5d\n", changes, seen, len(have), len(copied))
	if seen == changes && !maps.Equal(have, copied) {
		return errors.New("the copy differs from the table")
	}
	if seen != changes {
		return nil // Ctrl-C
	}
	fmt.Println("the ledger adds up")
	return nil
}

// watch prints what happens, and what the table has then.
func watch(q listen.Listener, then func(eventddb.Change[User]) error) {
	deq, ack := eventddb.Listen[User](q) // before the kernel runs
	go consume(deq, ack, then)
}

func consume(deq <-chan swarm.Msg[eventddb.Change[User]], ack chan<- swarm.Msg[eventddb.Change[User]], then func(eventddb.Change[User]) error) {
	view := map[string]int{} // visits by user
	for msg := range deq {
		c := msg.Object
		err := look(view, c)
		if err == nil {
			err = then(c)
		}
		if err != nil {
			ack <- msg.Fail(err)
			continue
		}
		ack <- msg
	}
}

func look(view map[string]int, c eventddb.Change[User]) error {
	key, err := c.Key()
	if err != nil {
		return err
	}
	if c.Kind == eventddb.Remove || c.Kind == eventddb.Expire {
		delete(view, key.ID)
	} else {
		user, err := c.New()
		if err != nil {
			return err
		}
		view[user.ID] = user.Visits
	}
	fmt.Printf("%-7s %-8s %s\n", c.Kind, key.ID, bars(view))
	return nil
}

// bars draws the view: a letter for each user, as often as he was here.
func bars(view map[string]int) string {
	var b strings.Builder
	for _, id := range users {
		b.WriteString(strings.Repeat(id[:1], view[id]))
	}
	return b.String()
}

// replicate does to a table what was done to another.
func replicate(ctx context.Context, client *dynamodb.Client, table string, c eventddb.Change[User]) error {
	if c.Kind == eventddb.Remove || c.Kind == eventddb.Expire {
		key, err := c.Key()
		if err != nil {
			return err
		}
		return remove(ctx, client, table, key.ID)
	}
	user, err := c.New()
	if err != nil {
		return err
	}
	return put(ctx, client, table, user)
}

var users = []string{"ada", "bob", "cleo", "dan"}

// change does something to a table, n times.
func change(ctx context.Context, client *dynamodb.Client, table string, n int, pause time.Duration) error {
	visits := map[string]int{}
	for range n {
		id := users[rand.IntN(len(users))]
		visits[id]++
		err := error(nil)
		if visits[id] > 9 {
			visits[id] = 0
			err = remove(ctx, client, table, id)
		} else {
			err = put(ctx, client, table, User{id, visits[id]})
		}
		if err != nil {
			return err
		}
		time.Sleep(pause)
	}
	return nil
}

func put(ctx context.Context, client *dynamodb.Client, table string, user User) error {
	item, err := attributevalue.MarshalMap(user)
	if err == nil {
		_, err = client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: item})
	}
	return err
}

func remove(ctx context.Context, client *dynamodb.Client, table, id string) error {
	_, err := client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &table, Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}}})
	return err
}

// items of a table: visits by user.
func items(ctx context.Context, client *dynamodb.Client, table string) (map[string]int, error) {
	out, err := client.Scan(ctx, &dynamodb.ScanInput{TableName: &table, ConsistentRead: new(true)})
	if err != nil {
		return nil, err
	}
	all := map[string]int{}
	for _, item := range out.Items {
		var user User
		if err := attributevalue.UnmarshalMap(item, &user); err != nil {
			return nil, err
		}
		all[user.ID] = user.Visits
	}
	return all, nil
}

// create makes a table with a stream, if it is not there.
func create(ctx context.Context, client *dynamodb.Client, table string) error {
	_, err := client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:            &table,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: new("id"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: new("id"), KeyType: types.KeyTypeHash}},
		StreamSpecification:  &types.StreamSpecification{StreamEnabled: new(true), StreamViewType: types.StreamViewTypeNewAndOldImages},
	})
	if _, there := errors.AsType[*types.ResourceInUseException](err); there {
		return nil
	}
	if err != nil {
		return err
	}
	return dynamodb.NewTableExistsWaiter(client).Wait(ctx, &dynamodb.DescribeTableInput{TableName: &table}, time.Minute)
}
