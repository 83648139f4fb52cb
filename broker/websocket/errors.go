package websocket

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
)

// ErrGone is wrapped by the error of a message whose connection is closed. No retry helps:
// forget the connection. [GoneError] names it.
var ErrGone = errors.New("websocket: the connection is gone")

// GoneError is the cause of an [swarm.EmitError], on StdErr and from Enq, when the connection
// is closed.
type GoneError struct {
	Connection string
	Err        error // of the SDK
}

// Error names the connection.
func (e *GoneError) Error() string {
	return fmt.Sprintf("websocket: connection %s is gone: %v", e.Connection, e.Err)
}

// Unwrap makes it an [ErrGone].
func (e *GoneError) Unwrap() []error { return []error{ErrGone, e.Err} }

// ErrNoSink is wrapped by the error of a message that says no connection: see [SinkBy].
var ErrNoSink = errors.New("websocket: no connection to send to: set Meta.Sink of the event, or use SinkBy or Reply")

// classify marks what would fail again the same way, and names the connection.
func (a *api) classify(connection string, err error) error {
	if awskit.Is[*types.GoneException](err) {
		err = &GoneError{Connection: connection, Err: err}
	}
	return awskit.Classify(err, permanent, func(err error) error {
		return fmt.Errorf("websocket: api %s: post to %s: %w", a.endpoint, connection, err)
	})
}

func permanent(err error) bool {
	return errors.Is(err, ErrGone) ||
		awskit.Is[*types.ForbiddenException](err) ||
		awskit.Is[*types.PayloadTooLargeException](err) ||
		awskit.Coded(err, "BadRequestException")
}

// refusal is a nack that says what the client gets.
type refusal struct {
	status int
	err    error
}

// Refuse fails a [Connect] with the HTTP status that the client gets, from 400 to 599; any
// other status counts as 403. The client does not get to see err. Messages that come over a
// connection have no status: there it is err.
//
//	ack <- msg.Fail(websocket.Refuse(http.StatusTooManyRequests, errFull))
func Refuse(status int, err error) error {
	if status < 400 || status > 599 {
		status = http.StatusForbidden
	}
	if err == nil {
		err = errors.New(http.StatusText(status))
	}
	return &refusal{status, err}
}

func (r *refusal) Error() string { return fmt.Sprintf("websocket: refused by %d: %v", r.status, r.err) }
func (r *refusal) Unwrap() error { return r.err }
