package eventbridge

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/fogfish/swarm/broker/internal/awskit"
)

// classify marks what would fail again the same way, and names the bus.
func (b *bus) classify(op string, err error) error {
	return awskit.Classify(err, permanent, func(err error) error {
		return fmt.Errorf("%s: %s: %w", b, op, err)
	})
}

func permanent(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && isPermanent(api.ErrorCode())
}

// isPermanent reports codes, of a request or of one entry, that say that the event or the
// permissions are at fault. The documentation names some with Exception at the end and
// some without.
func isPermanent(code string) bool {
	switch strings.TrimSuffix(code, "Exception") {
	case "AccessDenied", "NotAuthorizedForSource", "NotAuthorizedForDetailType", "InvalidAccountId",
		"InvalidArgument", "MalformedDetail", "RedactionFailure",
		"Validation", "ResourceNotFound", "OperationDisabled":
		return true
	}
	return false
}
