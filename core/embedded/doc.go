// Package embedded is a message broker in memory, for the unit tests of programs
// that use swarm and for trying swarm out. It behaves as SQS does: leases that end
// and bring a message back, delays, attempts, dead letters, FIFO groups, a
// deduplication window. Nothing survives the process.
//
//	q, err := embedded.Endpoint().Build("orders")
//
// # Which queue
//
// A name is all that two kernels of a process need to meet on one queue:
//
//	emitter, err := embedded.Emitter().Build("orders")
//	listener, err := embedded.Listener().Build("orders")
//
// Such a queue lives as long as one of its kernels. When the last one is closed, the
// queue is gone, and Close says by a [LostError] how many messages went with it. The
// empty name makes a queue that only this one kernel knows.
//
// Tests hold the queue themselves, or a [Broker] for a set of named queues. It stays
// when kernels are closed, so that a kernel can be restarted and the queue inspected:
//
//	queue, err := embedded.NewQueue("orders", embedded.WithMaxReceives(3))
//	q, err := embedded.Endpoint().WithQueue(queue).Build("")
//	…
//	if n := len(queue.DeadLetters()); n != 0 {
//
// # Delivery
//
// A receive leases a message for the visibility timeout (30 s). When the lease ends
// unsettled, somebody else may receive the message. A settlement that comes after
// that is refused; one that comes late but before it still counts. Without FIFO, a
// message that was nacked or whose lease has ended goes behind what is waiting, and a
// released one back to its old place.
//
// With [WithFIFO] messages of a group are received in order, and none while an earlier
// one of the group is leased or waits for its delay after a nack. One receive may
// return several of a group. A message without a group is of the group that has the
// name of its category.
//
// # Time
//
// The broker runs on real time, and on virtual time inside a bubble of testing/synctest.
// Build the kernels inside the bubble. A queue may be made outside, and be used by one
// bubble after another, when the kernels of each are closed before the next. Queues
// that are found by name in the whole process do not suit parallel bubbles: use
// [NewQueue] or [NewBroker].
package embedded
