package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/fogfish/it/v2"

	"github.com/fogfish/swarm/broker/websocket"
	"github.com/fogfish/swarm/examples/internal/aws"
	"github.com/fogfish/swarm/qtest/localstack"
)

func client(t *testing.T) *dynamodb.Client {
	t.Helper()
	return dynamodb.NewFromConfig(aws.LocalStack(localstack.Endpoint(t), localstack.Account("examples/chat")))
}

func table(t *testing.T) *Table {
	t.Helper()
	c, name := client(t), aws.Name("chat")
	if err := Create(t.Context(), c, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: &name}); err != nil {
			t.Error(err)
		}
	})
	return NewTable(c, name)
}

// both runs a test for each of the registries.
func both(t *testing.T, test func(*testing.T, Registry)) {
	t.Run("memory", func(t *testing.T) { test(t, NewMemory()) })
	t.Run("table", func(t *testing.T) { test(t, table(t)) })
}

func member(connection string) websocket.Member {
	return websocket.Member{Connection: connection, Since: time.Now().Truncate(time.Millisecond)}
}

func members(t *testing.T, r Registry, topic string) (all []string) {
	t.Helper()
	for m, err := range r.Members(t.Context(), topic) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Connection)
	}
	slices.Sort(all)
	return all
}

func topics(t *testing.T, r Registry, connection string) []string {
	t.Helper()
	all, err := r.Topics(t.Context(), connection)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func set(t *testing.T, r Registry, connection string, topics ...string) {
	t.Helper()
	if err := r.Set(t.Context(), member(connection), topics...); err != nil {
		t.Fatal(err)
	}
}

func TestRegistry(t *testing.T) {
	both(t, func(t *testing.T, r Registry) {
		set(t, r, "a", "room/hall", "name/ada")
		set(t, r, "b", "room/hall", "name/bob", "name/bob")
		it.Then(t).Should(
			it.Seq(members(t, r, "room/hall")).Equal("a", "b"),
			it.Seq(members(t, r, "name/bob")).Equal("b"),
			it.Seq(members(t, r, "room/none")).BeEmpty(),
			it.Seq(topics(t, r, "a")).Equal("name/ada", "room/hall"),
			it.Seq(topics(t, r, "none")).BeEmpty(),
		)
		set(t, r, "a", "room/garden", "name/ada")
		it.Then(t).Should(
			it.Seq(members(t, r, "room/hall")).Equal("b"),
			it.Seq(members(t, r, "room/garden")).Equal("a"),
			it.Seq(topics(t, r, "a")).Equal("name/ada", "room/garden"),
		)
		for range 2 { // the second time it is not there
			set(t, r, "a")
			it.Then(t).Should(
				it.Seq(members(t, r, "room/garden")).BeEmpty(),
				it.Seq(members(t, r, "name/ada")).BeEmpty(),
				it.Seq(topics(t, r, "a")).BeEmpty(),
				it.Seq(topics(t, r, "b")).Equal("name/bob", "room/hall"),
			)
		}
	})
}

// A member is what it was set as, also on the later pages.
func TestPages(t *testing.T) {
	both(t, func(t *testing.T, r Registry) {
		if x, ok := r.(*Table); ok {
			x.page = 3
		}
		want := map[string]websocket.Member{}
		for n := range 10 {
			m := member(fmt.Sprint(n))
			m.Since = m.Since.Add(-time.Duration(n) * time.Minute)
			want[m.Connection] = m
			if err := r.Set(t.Context(), m, "room/hall"); err != nil {
				t.Fatal(err)
			}
		}
		for m, err := range r.Members(t.Context(), "room/hall") {
			if err != nil || !m.Since.Equal(want[m.Connection].Since) {
				t.Errorf("got %v, %v", m, err)
			}
			delete(want, m.Connection)
			if err := r.Set(t.Context(), m); err != nil { // while one ranges over them
				t.Error(err)
			}
		}
		if len(want) != 0 {
			t.Errorf("missing %v", want)
		}
		it.Then(t).Should(it.Seq(members(t, r, "room/hall")).BeEmpty())
	})
}

// Whoever sets the topics of a connection last wins, and nothing of the others is left.
func TestSetAtTheSameTime(t *testing.T) {
	both(t, func(t *testing.T, r Registry) {
		var all sync.WaitGroup
		for n := range 4 {
			all.Go(func() {
				if err := r.Set(t.Context(), member("a"), fmt.Sprint("room/", n), fmt.Sprint("name/", n)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		in := topics(t, r, "a")
		if len(in) != 2 {
			t.Fatalf("in %v", in)
		}
		for n := range 4 {
			for _, topic := range []string{fmt.Sprint("room/", n), fmt.Sprint("name/", n)} {
				if got := members(t, r, topic); slices.Contains(in, topic) != (len(got) == 1) {
					t.Errorf("in %v, but %s has %v", in, topic, got)
				}
			}
		}
	})
}

// DynamoDB removes items late: what has expired does not count.
func TestExpired(t *testing.T) {
	r := table(t)
	old := websocket.Member{Connection: "a", Since: time.Now().Add(-lifetime)}
	if err := r.Set(t.Context(), old, "room/hall"); err != nil {
		t.Fatal(err)
	}
	set(t, r, "b", "room/hall")
	it.Then(t).Should(
		it.Seq(members(t, r, "room/hall")).Equal("b"),
		it.Seq(topics(t, r, "a")).BeEmpty(),
	)
	set(t, r, "a", "room/hall")
	it.Then(t).Should(it.Seq(members(t, r, "room/hall")).Equal("a", "b"))

	ttl, err := r.client.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &r.name})
	if err != nil || ttl.TimeToLiveDescription == nil || ttl.TimeToLiveDescription.AttributeName == nil || *ttl.TimeToLiveDescription.AttributeName != "expires" {
		t.Errorf("time to live: %+v, %v", ttl, err)
	}
	if err := Create(t.Context(), r.client, r.name); err != nil {
		t.Errorf("it is there: %v", err)
	}
}

// Errors say what was wanted, and end a sequence.
func TestNoTable(t *testing.T) {
	r := NewTable(client(t), aws.Name("none"))
	n := 0
	for _, err := range r.Members(t.Context(), "room/hall") {
		n++
		it.Then(t).Should(it.Fail(func() error { return err }).Contain(`members of "room/hall"`))
	}
	_, err := r.Topics(t.Context(), "a")
	it.Then(t).Should(
		it.Equal(n, 1),
		it.Fail(func() error { return err }).Contain("topics of connection a"),
		it.Fail(func() error { return r.Set(t.Context(), member("a"), "room/hall") }).Contain("set topics of connection a"),
	)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Set(ctx, member("a"), "room/hall"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTooManyTopics(t *testing.T) {
	r := table(t)
	many := make([]string, most+1)
	for i := range many {
		many[i] = fmt.Sprint("room/", i)
	}
	it.Then(t).Should(it.Fail(func() error { return r.Set(t.Context(), member("a"), many...) }).Contain("100 topics change, at most 99 can"))
	set(t, r, "a", many[1:]...)
	set(t, r, "a")
	it.Then(t).Should(it.Seq(members(t, r, "room/7")).BeEmpty())
}
