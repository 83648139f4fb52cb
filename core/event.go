package swarm

import "time"

// Event is an immutable fact: data, and metadata beside it (who, when, where). M is
// [Meta] or a struct that embeds it. On the wire it is {"meta":{…},"data":{…}}.
type Event[M, T any] struct {
	Meta *M `json:"meta,omitempty"`
	Data *T `json:"data,omitempty"`
}

// Meta is the metadata of an event. Embed it in a struct to add fields:
//
//	type Meta struct {
//		swarm.Meta
//		About string `json:"about,omitempty"`
//	}
//
// When an event is sent, ID, Type, Agent, Realm and Created are filled where the
// sender left them empty, on a copy: the sender's value does not change.
type Meta struct {
	// Sink is where the event goes, for example a WebSocket connection.
	Sink string `json:"sink,omitempty"`

	// ID names the event. A sender that keeps it over a sequence of messages has
	// request and response. FIFO queues and topics take two events of one ID and one
	// category for the same: see emit.DedupBy.
	ID string `json:"id,omitempty"`

	// Type of action. Default: the category.
	Type string `json:"type,omitempty"`

	// Realm is the logical environment (blue or green, a canary) of the event.
	// Default: [WithRealm].
	Realm string `json:"realm,omitempty"`

	// Agent is the software component that emitted the event. Default:
	// [WithSource].
	Agent string `json:"agent,omitempty"`

	// Created is when the event was made. Default: when it was encoded.
	Created time.Time `json:"created"`

	// Target is the software component that should act on the event.
	Target string `json:"target,omitempty"`

	// Participant is who initiated the event, a user for example.
	Participant string `json:"participant,omitempty"`
}

// SwarmMeta returns the Meta itself. Structs that embed Meta get the method
// promoted: this is how swarm finds it without reflection.
func (m *Meta) SwarmMeta() *Meta { return m }

// Metadata is a pointer to Meta or to a struct that embeds it. A struct that does
// not embed Meta does not compile as metadata of an event.
type Metadata[M any] interface {
	*M
	SwarmMeta() *Meta
}
