package eventddb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/listen"
)

// Kind is what happened to an item.
type Kind string

// The kinds.
const (
	Insert Kind = "insert"
	Modify Kind = "modify"
	Remove Kind = "remove"
	Expire Kind = "expire" // removed by DynamoDB itself, because its time to live was over
)

// Change says what happened to an item of T, by the tags of the SDK's attributevalue
// (dynamodbav). Images are decoded when they are asked for.
type Change[T any] struct {
	Kind Kind
	Record
}

// Listen makes channels for changes of items of T; q is a kernel on a stream. See package
// listen.
func Listen[T any](q listen.Listener) (deq <-chan swarm.Msg[Change[T]], ack chan<- swarm.Msg[Change[T]]) {
	return listen.Typed[Change[T]](q, listen.Codec[Change[T]](codec[T]{}))
}

// codec decodes a record once; by way of UnmarshalJSON it would be read three times.
type codec[T any] struct{}

func (codec[T]) Category() string  { return Category }
func (codec[T]) MediaType() string { return "application/json" }

func (codec[T]) Decode(b []byte) (c Change[T], err error) {
	if c.Record, err = parse(b); err == nil {
		c.Kind, err = c.kind()
	}
	return c, err
}

// New is the item after the change; [ErrNoImage] when it was removed.
func (c Change[T]) New() (T, error) { return decode[T](c.NewImage, "new image") }

// Old is the item before the change; [ErrNoImage] when it was inserted.
func (c Change[T]) Old() (T, error) { return decode[T](c.OldImage, "old image") }

// Key is the item with nothing but its key.
func (c Change[T]) Key() (T, error) { return decode[T](c.Keys, "keys") }

func decode[T any](image json.RawMessage, what string) (v T, err error) {
	if image == nil {
		return v, fmt.Errorf("%w: %s", ErrNoImage, what)
	}
	m, err := attributevalue.UnmarshalMapJSON(image)
	if err == nil {
		err = attributevalue.UnmarshalMap(m, &v)
	}
	if err != nil {
		return v, fmt.Errorf("eventddb: %s as %T: %w", what, v, err)
	}
	return v, nil
}

// UnmarshalJSON reads a record, but not its images.
func (c *Change[T]) UnmarshalJSON(b []byte) error {
	in, err := codec[T]{}.Decode(bytes.Clone(b))
	if err == nil {
		*c = in
	}
	return err
}

func (r *Record) kind() (Kind, error) {
	switch r.EventName {
	case "INSERT":
		return Insert, nil
	case "MODIFY":
		return Modify, nil
	case "REMOVE":
		if r.Identity != nil && r.Identity.Type == "Service" && r.Identity.PrincipalID == "dynamodb.amazonaws.com" {
			return Expire, nil
		}
		return Remove, nil
	}
	return "", errors.New("eventddb: not a record of DynamoDB: event " + fmt.Sprintf("%.40q", r.EventName))
}
