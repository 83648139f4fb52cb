package swarm_test

import (
	"strings"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
)

type User struct{ Name string }
type Note struct{ Text string }
type Box[T any] struct{ V T }
type Pair[A, B any] struct {
	A A
	B B
}

// want names the category of T.
func category[T any](want string) func(t *testing.T) {
	return func(t *testing.T) {
		if got, err := swarm.TypeOf[T](); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

// These names are on the wire: a change of one breaks the programs in production.
func TestCategoryOfType(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"struct":             category[User]("User"),
		"pointer":            category[*User]("User"),
		"other package":      category[time.Time]("Time"),
		"predeclared":        category[string]("string"),
		"generic":            category[Box[User]]("Box[User]"),
		"generic of pointer": category[Box[*User]]("Box[*User]"),
		"pointer to generic": category[*Box[User]]("Box[User]"),
		"two arguments":      category[Pair[User, Note]]("Pair[User,Note]"),
		"order of arguments": category[Pair[Note, User]]("Pair[Note,User]"),
		"nested":             category[Pair[Box[User], Note]]("Pair[Box[User],Note]"),
		"slice argument":     category[Box[[]User]]("Box[[]User]"),
		"map argument":       category[Box[map[string]*User]]("Box[map[string]*User]"),
		"chan argument":      category[Box[chan<- User]]("Box[chan<- User]"),
		"event":              category[swarm.Event[swarm.Meta, User]]("Event[Meta,User]"),
	} {
		t.Run(name, test)
	}
}

func refused[T any](t *testing.T) {
	t.Helper()
	got, err := swarm.TypeOf[T]()
	if got != "" || err == nil || !strings.Contains(err.Error(), "explicit category") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTypesWithoutAStableNameAreRefused(t *testing.T) {
	type Local struct{}
	refused[[]User](t)
	refused[map[string]User](t)
	refused[**User](t)
	refused[struct{ A int }](t)
	refused[func()](t)
	refused[any](t)
	refused[chan User](t)
	refused[[3]User](t)
	refused[Box[Local]](t)
	refused[Box[struct{ A int }]](t)
	refused[Box[interface{ M() }]](t)
	refused[Box[func(User) Note]](t)
}
