// Package websocket is swarm on WebSocket APIs of AWS API Gateway: channels to a browser.
//
//	q := swarm.Must(websocket.Endpoint().Build("wss://abc.execute-api.eu-west-1.amazonaws.com/prod"))
//
//	deq, ack := listen.Typed[Say](q)                // messages of the route Say
//	for msg := range deq {
//		err := websocket.Reply(q, msg, Said{…})  // to the client that it came from
//		…
//	}
//
// # Send
//
// A message goes to one connection: an event to its Meta.Sink, a value to what [SinkBy] says
// of its channel, an answer by [Reply] to where the question came from. One that says no
// connection is refused ([ErrNoSink]). Clients get the body and nothing else, up to 128 KiB.
//
// What goes to one connection is in order. Different connections do not wait for each other,
// up to [Builder.WithConcurrency]; but a channel has only swarm.WithEmitWindow values on
// their way, and a window of one waits for the slow ones. API Gateway has no batches: each
// message is a request.
//
// A message to a connection that is closed fails at once, with a [GoneError] that names it,
// from Enq and on StdErr. API Gateway answers 429 when a client reads too slowly: that is
// tried again, by the policy of the kernel.
//
// # Receive
//
// API Gateway invokes functions of AWS Lambda. The category of a message is the route by
// which it came, as the API selects it: by $request.body.action, say. Messages that select
// none have the category [RouteDefault], or what [EnvCategory] says. IOContext is the
// [Request]; [ConnectionOf], [PrincipalOf] and [ContextOf] read it. A message that fails
// fails the invocation: the client gets "Internal server error", and nobody tries again.
//
// [Connects] and [Disconnects] are clients that come and go. A nack of a [Connect] turns the
// client away, [Refuse] by a status of your choice. Until the invocation has answered the
// client cannot be sent to: let it speak first.
//
// # Broadcast
//
// A [Registry] knows which connections are in which topics. [Track] feeds it by the clients
// that come and go; a [Broadcaster] sends to all in a topic, and forgets those that are gone.
// [Memory] is a registry for one process; a table of DynamoDB makes one for all instances of
// a function.
//
// # Permissions
//
// The least that a policy has to allow, on
// arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/POST/@connections/*:
//
//	execute-api:ManageConnections   to send
//
// Who may connect is for the authorizer of the API: see package authorizer, a module of its
// own.
package websocket
