// Package gateway is a WebSocket API of Amazon API Gateway on a laptop: routes, a Lambda
// authorizer, the @connections API with checked signatures, and the limits of AWS. The
// integrations are functions of package lambda: real binaries or a handler in the own
// process.
//
//	gw, err := gateway.Start(ctx, gateway.API{Integration: fn})
//	defer gw.Close()
//	// clients connect to gw.URL(), the function posts to gw.Endpoint()
//
// The rules are those of the API Gateway developer guide as of 2026. Where AWS does not
// say what it does, the comment says what is done here.
//
// # Order
//
// As on AWS, the messages of a connection are worked on at the same time, and nothing is
// promised about their order. Here an integration that is busy is waited for instead of
// throttled, and invocations begin in the order in which the messages arrived, so that a
// function with one process at a time sees them in order. Posts to a connection reach the
// client in the order in which they were accepted.
//
// # What it does not do
//
// It has Lambda proxy integrations only: no mapping templates, models or mock
// integrations. API keys, IAM authorization of clients, resource policies, conditions in
// the policy of an authorizer, custom domains, TLS and compression are not there. Anyone
// who reaches the port is a client, also a page of a foreign origin, as on AWS.
package gateway
