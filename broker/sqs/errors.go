package sqs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/fogfish/swarm/core/driver"
)

// EntryError is why the service has refused one entry of a batch.
type EntryError struct {
	Code    string // as SQS names it
	Message string
}

// Error names the code and what the service says.
func (e *EntryError) Error() string { return "sqs: " + e.Code + ": " + e.Message }

// entryFailure reads one entry of Failed. The service says whose fault it is, except
// that it blames the sender for its own throttling.
func entryFailure(index int, x types.BatchResultErrorEntry) driver.Failure {
	err := &EntryError{Code: aws.ToString(x.Code), Message: aws.ToString(x.Message)}
	return driver.Failure{Index: index, Err: err, Permanent: x.SenderFault && !throttled(err.Code)}
}

// throttled reports codes that say "later", whoever is blamed.
func throttled(code string) bool {
	for _, part := range []string{"Throttl", "OverLimit", "LimitExceeded", "TooManyRequests", "SlowDown"} {
		if strings.Contains(code, part) {
			return true
		}
	}
	return false
}

// classify marks what would fail again the same way. Errors are told apart by their
// type: the service rewrites codes to older names. Everything else is worth another
// attempt, also OverLimit and throttles of KMS, which the SDK does not repeat.
func (s *source) classify(op string, err error) error {
	if err == nil {
		return nil
	}
	wrapped := fmt.Errorf("sqs: queue %s: %s: %w", s.ref.name, op, err)
	if permanent(err) {
		return driver.Permanent(wrapped)
	}
	return wrapped
}

func permanent(err error) bool {
	if sdkRetries.IsErrorRetryable(err) == aws.TrueTernary {
		return false // among them a clock that is off: the SDK has learned by how much
	}
	return is[*types.QueueDoesNotExist](err) ||
		is[*types.InvalidMessageContents](err) ||
		is[*types.InvalidAttributeName](err) ||
		is[*types.InvalidAttributeValue](err) ||
		is[*types.BatchRequestTooLong](err) ||
		is[*types.TooManyEntriesInBatchRequest](err) ||
		is[*types.BatchEntryIdsNotDistinct](err) ||
		is[*types.InvalidBatchEntryId](err) ||
		is[*types.EmptyBatchRequest](err) ||
		is[*types.UnsupportedOperation](err) ||
		is[*types.InvalidAddress](err) ||
		is[*types.InvalidSecurity](err) ||
		is[*types.KmsAccessDenied](err) ||
		is[*types.KmsDisabled](err) ||
		is[*types.KmsInvalidState](err) ||
		is[*types.KmsInvalidKeyUsage](err) ||
		is[*types.KmsNotFound](err) ||
		is[*types.KmsOptInRequired](err) ||
		denied(err) || coded(err, "InvalidClientTokenId", "UnrecognizedClientException")
}

// sdkRetries is what the SDK would repeat if it were let.
var sdkRetries = retry.IsErrorRetryables(retry.DefaultRetryables)

// denied reports a lack of permission.
func denied(err error) bool { return coded(err, "AccessDenied", "AccessDeniedException") }

// coded reports errors that have no type.
func coded(err error, codes ...string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains(codes, api.ErrorCode())
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
