package swarm

import (
	"errors"
	"fmt"
	"time"
)

// Stats is the ledger of a kernel at one moment: what became of every value that it
// accepted and of every message that it received. Counts are exact, and begin with the
// kernel. Each category, and each operation, adds up at every moment; [Stats.Check] says
// so. Between them the snapshot is not of one instant.
type Stats struct {
	// Emit is by the category of channels and of synchronous emitters.
	Emit map[string]EmitStats `json:"emit,omitempty"`

	// Listen is by the category of channels. Messages nobody listens to are under "",
	// those of the catch-all too: their categories are whatever senders make up.
	Listen map[string]ListenStats `json:"listen,omitempty"`

	// Requests are calls of the broker.
	Requests map[Operation]RequestStats `json:"requests,omitempty"`

	// Settling is how many settlements the broker has not confirmed yet, Unconfirmed how
	// many it has refused for good, or left unanswered at the end. Such messages may come
	// again.
	Settling    int64 `json:"settling"`
	Unconfirmed int64 `json:"unconfirmed"`
}

// EmitStats is the ledger of what is emitted in one category:
//
//	Accepted = InFlight + DeadLetters + Confirmed + Failed + Dropped + Undelivered
type EmitStats struct {
	Accepted    int64 `json:"accepted"`    // taken off a channel, or passed to Enq
	InFlight    int64 `json:"inFlight"`    // waiting, in a request, or for another attempt
	DeadLetters int64 `json:"deadLetters"` // failed, and not taken from dlq: its window shrinks, or its channel is blocked
	Confirmed   int64 `json:"confirmed"`   // accepted by the broker
	Failed      int64 `json:"failed"`      // came out of dlq, or of Enq with an error
	Dropped     int64 `json:"dropped"`     // failed, and dlq was not read: at most once, or in the time of an invocation
	Undelivered int64 `json:"undelivered"` // left over at the end of the kernel

	Retried int64 `json:"retried"` // attempts beyond the first
	Refused int64 `json:"refused"` // sent after the end: not accepted

	// Oldest is the age of the oldest value in flight. One that its channel has just accepted
	// has none yet.
	Oldest time.Duration `json:"oldest"`
}

// ListenStats is the ledger of what is received in one category, a message being counted
// for each of its deliveries:
//
//	Received = Waiting + Working + Acked + Failed + Rejected + Expired + Released + LeaseLost + Lost
type ListenStats struct {
	Received  int64 `json:"received"`
	Waiting   int64 `json:"waiting"`   // for a consumer, or behind its group
	Working   int64 `json:"working"`   // with consumers
	Acked     int64 `json:"acked"`     // processed; at most once: handed over; of an unknown category: by policy
	Failed    int64 `json:"failed"`    // by a consumer
	Rejected  int64 `json:"rejected"`  // by the kernel: it cannot be read, nobody listens, or nobody took it and others were held up
	Expired   int64 `json:"expired"`   // the consumer had it for too long, or until the end of the kernel
	Released  int64 `json:"released"`  // given back without having been handed over
	LeaseLost int64 `json:"leaseLost"` // the broker has given it to somebody else
	Lost      int64 `json:"lost"`      // at most once: acknowledged, and not handed over

	Redelivered int64 `json:"redelivered"` // received not for the first time, as far as the broker counts
	Ignored     int64 `json:"ignored"`     // settlements that were late, double, forged or foreign

	// Oldest is the age of the oldest message that waits or is worked on, since the broker
	// took it; Longest is for how long a consumer has had a message.
	Oldest  time.Duration `json:"oldest"`
	Longest time.Duration `json:"longest"`
}

// RequestStats counts the calls of one operation:
//
//	Entries = InFlight + Succeeded + Failed
type RequestStats struct {
	Calls  int64 `json:"calls"`  // begun
	Open   int64 `json:"open"`   // not answered
	Errors int64 `json:"errors"` // of them, answered with an error, also for some of the entries only

	Entries   int64 `json:"entries"`   // messages, each as often as it was in a call
	InFlight  int64 `json:"inFlight"`  // in open calls
	Succeeded int64 `json:"succeeded"` // as the broker has answered
	Failed    int64 `json:"failed"`
}

// Operation is a kind of call of the broker.
type Operation string

// The operations of a driver.
const (
	OpSend    Operation = "send"
	OpReceive Operation = "receive"
	OpSettle  Operation = "settle"
	OpExtend  Operation = "extend"
)

// Check returns an error that names each category, and each operation, that does not add
// up. A kernel that makes one has a fault.
func (s Stats) Check() error {
	var errs []error
	check := func(what, name string, total, gauge int64, rest ...int64) {
		sum := gauge
		for _, n := range rest {
			sum += n
		}
		if sum != total || gauge < 0 {
			errs = append(errs, fmt.Errorf("swarm: %s %q does not add up: %d of %d", what, name, sum, total))
		}
	}
	for name, c := range s.Emit {
		check("emit", name, c.Accepted, min(c.InFlight, c.DeadLetters), max(c.InFlight, c.DeadLetters), c.Confirmed, c.Failed, c.Dropped, c.Undelivered)
	}
	for name, c := range s.Listen {
		check("listen", name, c.Received, min(c.Waiting, c.Working), max(c.Waiting, c.Working), c.Acked, c.Failed, c.Rejected, c.Expired, c.Released, c.LeaseLost, c.Lost)
	}
	for op, c := range s.Requests {
		check("operation", string(op), c.Entries, c.InFlight, c.Succeeded, c.Failed)
	}
	return errors.Join(errs...)
}
