// Fn is the chat: a function of AWS Lambda that the routes $connect, $disconnect, Join and
// Say of a WebSocket API invoke, with cmd/authorizer as the authorizer of the API.
//
//	client                                      function
//	connect ?room=hall&token=…                  refuses, or puts it into the room
//	{"action":"Join","room":"garden"}           Joined to the client, Present to the rooms
//	{"action":"Say","room":"garden",…}          Said to the room
//
// Rooms are in memory, which is good for one instance of the function, or in the table of
// DynamoDB that CONFIG_CHAT_TABLE names.
package main

import (
	"cmp"
	"context"
	"errors"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/examples/chat/registry"
)

// What clients send: the category is the action.
type (
	// Join is sent by a client when its connection is open, and to change the room.
	Join struct {
		Room string `json:"room"`
	}
	// Say is for all in the room, where the client must be itself.
	Say struct {
		Room string `json:"room"`
		ID   string `json:"id"` // the client's own
		Text string `json:"text"`
	}
)

// What clients get.
type (
	// Joined tells a client who and where it is.
	Joined struct {
		Action string `json:"action"`
		Name   string `json:"name"`
		Room   string `json:"room"`
	}
	// Said is what someone in the room says; the one who does gets it too.
	Said struct {
		Action string    `json:"action"`
		ID     string    `json:"id"`
		From   string    `json:"from"`
		Room   string    `json:"room"`
		Text   string    `json:"text"`
		At     time.Time `json:"at"`
	}
	// Present is who is in the room now.
	Present struct {
		Action string   `json:"action"`
		Room   string   `json:"room"`
		Names  []string `json:"names"`
	}
)

func main() {
	rooms, err := newRegistry(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	q := swarm.Must(websocket.Endpoint().Build("")) // the address is in CONFIG_SWARM_TARGET_WS_URL
	c := newChat(q, rooms)
	websocket.Track(q, c, c.enter)
	go c.join(listen.Typed[Join](q))
	go c.say(listen.Typed[Say](q))
	if err := q.Await(); err != nil {
		log.Fatal(err)
	}
}

func newRegistry(ctx context.Context) (registry.Registry, error) {
	table := os.Getenv("CONFIG_CHAT_TABLE")
	if table == "" {
		return registry.NewMemory(), nil
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return registry.NewTable(dynamodb.NewFromConfig(cfg), table), nil
}

// chat is a registry that tells a room when someone leaves it. A connection is in two topics:
// its room, and the name of the client.
type chat struct {
	registry.Registry
	q       emit.Emitter
	said    *websocket.Broadcaster[Said]
	present *websocket.Broadcaster[Present]
}

func newChat(q emit.Emitter, rooms registry.Registry) *chat {
	c := &chat{Registry: rooms, q: q}
	c.said = websocket.NewBroadcaster[Said](q, c)
	// Not c: it would tell of who is gone while it tells of who is gone.
	c.present = websocket.NewBroadcaster[Present](q, rooms)
	return c
}

// enter says where a client that connects goes: to the room that it asks for, by the name
// that the authorizer knows it by.
func (c *chat) enter(msg swarm.Msg[websocket.Connect]) ([]string, error) {
	name, room := websocket.PrincipalOf(msg), cmp.Or(url.Values(msg.Object.Query).Get("room"), "hall")
	if name == "" || len(name) > maxName || !isRoom(room) {
		return nil, websocket.Refuse(http.StatusBadRequest, errors.New("no name, or no such room"))
	}
	return topics(room, name), nil
}

// say passes on what a client says to all in its room.
func (c *chat) say(deq <-chan swarm.Msg[Say], ack chan<- swarm.Msg[Say]) {
	for msg := range deq {
		say, room := msg.Object, roomTopic+msg.Object.Room
		err := c.isIn(msg.Context(), websocket.ConnectionOf(msg), room)
		if err == nil {
			_, err = c.said.Broadcast(msg.Context(), room, Said{
				Action: "Said", Room: say.Room, ID: say.ID, From: websocket.PrincipalOf(msg), Text: say.Text, At: msg.SentAt,
			})
		}
		if err != nil {
			ack <- msg.Fail(err)
			continue
		}
		ack <- msg
	}
}

// join takes clients to a room, which may be the one they are in. It is also how they ask
// who is there: until $connect is acknowledged nothing can be sent to them.
func (c *chat) join(deq <-chan swarm.Msg[Join], ack chan<- swarm.Msg[Join]) {
	for msg := range deq {
		if err := c.move(msg); err != nil {
			ack <- msg.Fail(err)
			continue
		}
		ack <- msg
	}
}

func (c *chat) move(msg swarm.Msg[Join]) error {
	name, room := websocket.PrincipalOf(msg), msg.Object.Room
	if !isRoom(room) {
		return errors.New("no such room")
	}
	m := websocket.Member{Connection: websocket.ConnectionOf(msg), Since: connectedAt(msg)}
	if err := c.Set(msg.Context(), m, topics(room, name)...); err != nil {
		return err
	}
	err := websocket.Reply(c.q, msg, Joined{Action: "Joined", Name: name, Room: room})
	if errors.Is(err, websocket.ErrGone) { // and $disconnect may have been processed before us
		return c.Set(msg.Context(), m)
	}
	if err == nil {
		c.announce(msg.Context(), room)
	}
	return err
}

// Set implements [websocket.Registry] for [websocket.Track] and the broadcaster.
func (c *chat) Set(ctx context.Context, m websocket.Member, topics ...string) error {
	was, err := c.Topics(ctx, m.Connection)
	if err == nil {
		err = c.Registry.Set(ctx, m, topics...)
	}
	if err != nil {
		return err
	}
	if room := find(was, roomTopic); room != "" && room != find(topics, roomTopic) {
		c.announce(ctx, room)
	}
	return nil
}

// announce tells a room who is in it. Whom it does not reach is told the next time.
func (c *chat) announce(ctx context.Context, room string) {
	names, err := c.names(ctx, room)
	if err == nil {
		_, err = c.present.Broadcast(ctx, roomTopic+room, Present{Action: "Present", Room: room, Names: names})
	}
	if err != nil {
		slog.Warn("chat: not all know who is present", "room", room, "err", err)
	}
}

// names of those in a room. It takes a look-up for each of them: as many as there are posts
// to tell them.
func (c *chat) names(ctx context.Context, room string) ([]string, error) {
	names := []string{}
	for m, err := range c.Members(ctx, roomTopic+room) {
		if err != nil {
			return nil, err
		}
		in, err := c.Topics(ctx, m.Connection)
		if err != nil {
			return nil, err
		}
		if name := find(in, nameTopic); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil // a client may have several connections
}

// isIn fails unless the connection is in the topic.
func (c *chat) isIn(ctx context.Context, connection, topic string) error {
	in, err := c.Topics(ctx, connection)
	if err == nil && !slices.Contains(in, topic) {
		err = errors.New("the client is not in the room")
	}
	return err
}

const (
	roomTopic = "room/"
	nameTopic = "name/"
	maxName   = 64
)

func topics(room, name string) []string { return []string{roomTopic + room, nameTopic + name} }

// find what follows the prefix in one of the topics.
func find(topics []string, prefix string) string {
	for _, topic := range topics {
		if s, ok := strings.CutPrefix(topic, prefix); ok {
			return s
		}
	}
	return ""
}

var isRoom = regexp.MustCompile(`^[a-z0-9-]{1,32}$`).MatchString

// connectedAt is when the connection was made, by which it is known when it must be gone.
func connectedAt[T any](msg swarm.Msg[T]) time.Time {
	request, _ := msg.IOContext.(websocket.Request)
	return time.UnixMilli(request.RequestContext.ConnectedAt)
}
