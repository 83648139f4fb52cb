// Package qtest is the conformance suite for brokers: it runs any driver of package
// driver, directly and below a kernel, against the contract of swarm. A broker's test
// is three lines:
//
//	func TestConformance(t *testing.T) {
//		qtest.Run(t, open, qtest.Features{Visibility: 2 * time.Second, Extend: true, …})
//	}
//
// where open makes an empty [Queue] for each case. [Features] say what the broker is
// able to do. A case that needs what it lacks is skipped and says so; none is dropped
// in silence, and the [Report] lists them all.
//
// # Clauses
//
// Each [Case] is named after the clause of the contract that it checks. E1 to E8, L1
// to L9 and C1 to C5 are the clauses of package swarm, seen through a kernel on the
// broker. [RunFunction] has the cases of B1 to B5, for the Lambda mode of a broker. The
// clauses of the seam itself, which are stated by package driver, are
//
//   - D0 features: a driver is what it says it is.
//   - D1 content: bodies are bytes. Whatever a transport does to carry them, Receive
//     returns what was given to Send: body, category and, where the broker carries
//     them, source, id and attributes. What cannot be carried is refused for good,
//     never altered.
//   - D2 Send: accepts a batch, or names exactly the entries that it has not accepted,
//     and says which of them are pointless to repeat. It retains bodies only.
//   - D3 Receive: no more than was asked for, each message to one receiver at a time,
//     in order where the broker keeps order. It ends when its context does and loses
//     nothing by that.
//   - D4 Settle: ack removes, nack returns after its delay, release returns at once,
//     each entry by itself. A lost lease is a permanent failure.
//   - D5 Extend: a lease ends at the time that was set last.
//   - D6 connections: many at a time, used from many goroutines, independent of one
//     another.
//
// # Time
//
// A broker that lives in the process and is [Features].Virtual runs each case in a
// bubble of testing/synctest: waiting for leases and delays costs nothing. Against a
// service the cases poll for conditions, with bounds that are generous upwards
// (Features.Patience, Features.Slack) and strict downwards: a delayed message may be
// late but not early. Use short leases there, and Features.Parallel.
//
// # How the suite is tested
//
// The tests of this package run it on good brokers made of core/embedded, pin the
// exact list of cases that ran on each, and run it on deliberately broken brokers and
// kernels, each of which differs from a good one in one behaviour and must fail named
// cases. Every case is failed by at least one of them.
package qtest
