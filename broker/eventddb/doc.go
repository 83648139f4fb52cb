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
// The changes of an item are in order. In a function of AWS Lambda a batch is of one shard:
// its records are handed over one by one, and nothing behind one that has failed. The answer
// names the first failed record, from which the mapping goes on: enable
// ReportBatchItemFailures, or each failure repeats the whole batch, and set
// MaximumRetryAttempts or MaximumRecordAge, or a record that always fails holds its shard up
// until it is 24 h old.
//
// A record comes at least once. EventID stays the same; it is Msg.ID too.
//
// # On the wire
//
// The category is [Category], the body the record's JSON, as fogfish/swarm v0.24 has them:
// listen.Typed of events.DynamoDBEventRecord works as well. IOContext is that JSON.
//
// # Permissions
//
// A function needs those of the managed policy AWSLambdaDynamoDBExecutionRole on the stream:
//
//	dynamodb:DescribeStream, dynamodb:GetRecords, dynamodb:GetShardIterator, dynamodb:ListStreams
package eventddb
