package sqs

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
)

// classify marks what would fail again the same way, and names the queue. Errors are told
// apart by their type: the service rewrites codes to older names. Everything else is worth
// another attempt, also OverLimit and throttles of KMS, which the SDK does not repeat.
func (q *queue) classify(op string, err error) error {
	return awskit.Classify(err, permanent, func(err error) error { return q.named(op, err) })
}

// named names the queue, of requests that say nothing of their messages when they fail.
func (q *queue) named(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", q, op, err)
}

func permanent(err error) bool {
	return awskit.Is[*types.QueueDoesNotExist](err) ||
		awskit.Is[*types.InvalidMessageContents](err) ||
		awskit.Is[*types.InvalidAttributeName](err) ||
		awskit.Is[*types.InvalidAttributeValue](err) ||
		awskit.Is[*types.BatchRequestTooLong](err) ||
		awskit.Is[*types.TooManyEntriesInBatchRequest](err) ||
		awskit.Is[*types.BatchEntryIdsNotDistinct](err) ||
		awskit.Is[*types.InvalidBatchEntryId](err) ||
		awskit.Is[*types.EmptyBatchRequest](err) ||
		awskit.Is[*types.UnsupportedOperation](err) ||
		awskit.Is[*types.InvalidAddress](err) ||
		awskit.Is[*types.InvalidSecurity](err) ||
		awskit.Is[*types.KmsAccessDenied](err) ||
		awskit.Is[*types.KmsDisabled](err) ||
		awskit.Is[*types.KmsInvalidState](err) ||
		awskit.Is[*types.KmsInvalidKeyUsage](err) ||
		awskit.Is[*types.KmsNotFound](err) ||
		awskit.Is[*types.KmsOptInRequired](err)
}
