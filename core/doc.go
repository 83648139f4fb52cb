// Package swarm is Go channels for distributed queueing and event-driven systems.
//
//	enq, dlq := emit.Typed[Note](q)     // chan<- Note, <-chan Note
//	deq, ack := listen.Typed[Note](q)   // <-chan swarm.Msg[Note], chan<- swarm.Msg[Note]
//
// A value sent on enq goes to a broker; a message received from deq came from it, and
// goes back on ack when it was processed. The broker is a package of its own, and q is
// what it builds: an emitter, a listener, or an endpoint, which is both. Package
// github.com/fogfish/swarm/core/embedded has a broker in memory, for tests and to start
// with.
//
// This package has what users and brokers share: messages, events, options, errors.
// Packages emit and listen make channels; package codec turns values into bytes. Broker
// authors read package driver.
//
// # The delivery contract
//
// Each clause has a number. The tests of this module and the cases of the conformance
// suite, github.com/fogfish/swarm/qtest, are named after them.
//
// # Emit
//
// E1 Order. Values sent on one channel reach the broker in that order. Across channels
// nothing is promised. Where the broker itself keeps no order and the window is above
// 1, requests may overlap. Where it does, there is at most one request in flight with a
// group, and one entry of a group in a request, unless the broker was told to batch
// groups.
//
// E2 At least once, the default. At most window values of one channel are accepted and
// not yet confirmed by the broker ([WithEmitWindow], 1 by default). After value A has
// failed, a send of B blocks until A is taken from dlq: the delayed guarantee. A larger
// window makes the delay that much longer and the throughput that much higher.
//
// E3 At most once ([WithPolicyAtMostOnce]). A send waits only for space in the buffer. A
// failure goes to dlq if there is room, else it is dropped, counted and reported.
//
// E4 Accounting. Every value a send accepted ends in exactly one of: confirmed by the
// broker, on dlq, reported as undelivered. Also when Close, the end of a context or a
// signal races with the send. A broker whose answer was lost may hold a value that is
// reported.
//
// E5 Retry. The first attempt always happens. Only the failed entries of a batch are sent
// again, and those that are permanent are not. Delays end at the deadline of Close.
//
// E6 Synchronous emitters obey the same retry, batching and life cycle. After Close they
// return [ErrClosed].
//
// E7 A value that cannot be encoded, or whose codec panics, goes to dlq. The next one is
// not affected.
//
// E8 Batching. Values that are ready together travel together, across channels and
// synchronous callers of one kernel, within the limits of the broker. A full request
// goes at once; a partial one when no request is in flight, or after [WithLinger] while
// others are. A hung request never holds up another channel. A lone value is not
// delayed.
//
// # Listen
//
// L1 Micro-batch. A poller asks again when every message of its micro-batch is settled.
// Of each category at most pollers × batch size messages are with consumers. There is no
// pause after a poll that returned messages.
//
// L2 Acknowledge. ack <- msg deletes the message at the broker. Acknowledgements gather
// until the micro-batch is complete or 20 ms have passed. A failed one is retried, then
// reported, and never stops the poller.
//
// L3 Fail fast. ack <- msg.Fail(err) settles at once. When the broker offers the message
// again is the redelivery policy ([WithRedelivery]), or [RetryAfter].
//
// L4 One settlement. Each delivery is settled exactly once. A second, late, forged or
// foreign settlement is ignored and reported, and never settles another delivery.
//
// L5 Isolation. A slow or hung consumer of one category does not stop another: while some
// category has nothing in flight the poller asks again. What comes for a category beyond
// its share is parked under lease, up to one more share, of ten at least; only when that is
// full too does the poller hold. Nothing goes back to make room, but what was parked for
// TimeToFlight without one message of its category being taken: it is nacked and reported. A
// message that cannot be decoded is nacked and reported; its neighbours are delivered.
//
// L6 Unknown category. By policy ([WithUnknownCategory]): nacked and reported, or
// acknowledged; or handed to the catch-all, listen.Unknown. [WithDefaultCategory] names
// the category of messages that have none. Nacks of the kernel itself never come back at
// once.
//
// L7 Lease. While a message waits or is worked on, its lease is extended until
// TimeToFlight, and never after an acknowledgement. [Msg.Context] ends with the lease.
//
// L8 At most once. A message is acknowledged before it is handed over; from a source that
// pushes, by the hand-over. Nobody has to send it back, and what comes back is ignored.
// Its context ends with TimeToFlight. Nothing goes back: a category that nobody reads holds up
// the others when it is full (L5).
//
// L9 Order. Of a broker that keeps order, the messages of a group are handed over one
// after the other. After a failure the rest of the group goes back; other groups go on.
//
// # Life cycle
//
// C1 Close stops polling; releases what was not handed over and closes deq; waits for
// messages that were handed over, while emit stays open for replies; refuses new values
// and flushes accepted ones; flushes settlements; cuts off broker calls; lets lanes
// report what is left and closes dlq; closes the driver. At least a fifth of
// [WithDrainTimeout] is kept for the flush, whatever consumers do. The error, a
// [*DrainError], has exact counts.
//
// C2 The kernel never closes a channel the user sends on; it always closes deq and dlq.
// A send on enq after Close neither panics nor hangs: it is refused and reported in
// aggregate. The ack side stays open until every message that was handed over has come
// back once, however late.
//
// C3 Close is idempotent and safe from any goroutine, ends retries and broker calls at
// its deadline, and leaves no goroutine behind once the emit channels are closed and the
// handed-over messages came back.
//
// C4 An unread dlq or StdErr blocks neither Close nor polling. The kernel queues 1,000
// errors for [WithStdErr] and counts what overflows. Errors also go to the log.
//
// C5 Await drains on SIGTERM and SIGINT. Run does so when its context ends.
//
// # Lambda
//
// For sources that push: an invocation brings a batch and waits for the answer.
//
// B1 One invocation is one micro-batch with its own state. It returns when each of its
// messages is settled. What comes back for another invocation, or late, settles nothing.
//
// B2 Three times in order: until when messages are settled, until when what was emitted is
// flushed, and the deadline of the invocation itself, or [WithTimeToFlight] if that is
// shorter. Half a second at most is left to answer, and two seconds more to flush. A hung
// consumer fails its own messages only. A source without deadlines, of a service, gives
// each message TimeToFlight from its hand-over.
//
// B3 A source that takes partial answers gets exactly the failed messages; where groups
// are in order, the failed one and the rest of its group. Others fail at the first nack.
//
// B4 The process is frozen after the answer. Before it, every value that an emit channel of
// this process accepted before the last settlement is confirmed by its broker. A value that
// failed instead fails the invocation, also if it was taken from dlq, unless
// [WithDeadLetterHandled] says that whoever takes it deals with it. With several invocations
// at once it fails each that was open when the value was accepted: synchronous sends tell
// exactly. At the time to flush what is still on its way fails its invocation, and never the
// next one; dead letters that nobody reads are reported and make room, a tenth of a second
// after all else is done. An idle channel is not waited for. At most once, what fails fails
// no invocation. Other kernels of the process are covered: see [Barrier].
//
// B5 An empty batch, a message with nothing to read, a foreign shape: success or a clear
// error at once.
//
// # Observability
//
// Stats of a kernel is its ledger: what became of every value and every message, in counts
// that add up at every moment; package ledger shows it. [WithObserver] tells each step as it
// happens, and lets a trace travel with a message; without one it costs nothing.
package swarm
