// Package eventddb reads the changes of a table of AWS DynamoDB, from its stream.
//
//	q, err := eventddb.Listener().Build("users")
//	deq, ack := eventddb.Listen[User](q)
//	for msg := range deq {
//		user, err := msg.Object.New() // decoded now, by the tags of attributevalue
//		…
//		ack <- msg
//	}
//
// [Listen] gives changes of typed items, [Records] the records as they are.
//
// # Semantics
//
// The changes of an item are in order. A record comes at least once; EventID stays the
// same, and is Msg.ID too.
//
// In a function of AWS Lambda a batch is of one shard: its records are handed over one by
// one, and nothing behind one that has failed. The answer names the first failed record,
// from which the mapping goes on: enable ReportBatchItemFailures, or each failure repeats
// the whole batch, and set MaximumRetryAttempts or MaximumRecordAge, or a record that
// always fails holds its shard up until it is 24 h old.
//
// A service reads the shards itself: each by one worker, a child when its parent was read to
// its end. Records of a shard are handed over one by one. One that fails comes again, by the
// redelivery policy, and holds its shard up, and no other, until it succeeds or is given up:
// [Builder.WithMaxAttempts], [Builder.WithMaxAge], [Builder.WithOnFailure]. When the records
// of a batch are settled, and what consumers emitted meanwhile is confirmed by its broker,
// the checkpoint of the shard moves; it never passes a record that is not settled. After a
// crash records come again from the checkpoint on: a batch, and what a second has brought.
//
// Several instances share the shards by a [Store]. Each shard is leased: an instance that
// does not write its leases for their time has lost them, and stops by itself before that.
// Instances that come and go make the others hand shards over, between two batches. An
// instance that has lost a shard can move no checkpoint, and the contexts of its messages
// end. DynamoDB takes two readers of a shard: two services, or one and a function.
//
// DynamoDB removes records after a day. What was removed before it was read is reported,
// [ErrTrimmed], and reading goes on.
//
// # On the wire
//
// The category is [Category], the body the record's JSON as Lambda has it, also in a
// service, and as fogfish/swarm v0.24 has it: listen.Typed of events.DynamoDBEventRecord
// works as well. IOContext is that JSON in a function, the [Record] in a service.
//
// # What it costs
//
// AWS bills each GetRecords of a service, none of a function. An idle shard takes a request a
// second, see swarm.WithPollFrequency; a full one a request for up to 1,000 records.
//
// # Permissions
//
// On the stream, of a service and, by its managed policy AWSLambdaDynamoDBExecutionRole, of
// a function:
//
//	dynamodb:ListStreams, dynamodb:DescribeStream, dynamodb:GetShardIterator, dynamodb:GetRecords
//
// On the table of [NewTable]:
//
//	dynamodb:Query, dynamodb:PutItem, dynamodb:DeleteItem
package eventddb
