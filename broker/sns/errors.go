package sns

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
)

// classify marks what would fail again the same way, and names the topic. Everything else
// is worth another attempt, also throttles of KMS, which the SDK does not repeat.
func (t *topic) classify(op string, err error) error {
	return awskit.Classify(err, permanent, func(err error) error {
		return fmt.Errorf("%s: %s: %w", t, op, err)
	})
}

func permanent(err error) bool {
	return awskit.Is[*types.NotFoundException](err) ||
		awskit.Is[*types.InvalidParameterException](err) ||
		awskit.Is[*types.InvalidParameterValueException](err) ||
		awskit.Is[*types.ValidationException](err) ||
		awskit.Is[*types.BatchRequestTooLongException](err) ||
		awskit.Is[*types.TooManyEntriesInBatchRequestException](err) ||
		awskit.Is[*types.BatchEntryIdsNotDistinctException](err) ||
		awskit.Is[*types.InvalidBatchEntryIdException](err) ||
		awskit.Is[*types.EmptyBatchRequestException](err) ||
		awskit.Is[*types.EndpointDisabledException](err) ||
		awskit.Is[*types.PlatformApplicationDisabledException](err) ||
		awskit.Is[*types.InvalidSecurityException](err) ||
		awskit.Is[*types.KMSAccessDeniedException](err) ||
		awskit.Is[*types.KMSDisabledException](err) ||
		awskit.Is[*types.KMSInvalidStateException](err) ||
		awskit.Is[*types.KMSNotFoundException](err) ||
		awskit.Is[*types.KMSOptInRequired](err)
}
