package awskit

import (
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"

	"github.com/fogfish/swarm/core/driver"
)

// ErrNothing is the error of a client that answers neither a result nor an error.
var ErrNothing = errors.New("the client answers nothing")

// Entry is the error of one entry of a batch, which the service answers without an HTTP
// status.
func Entry(code, message *string, sender bool) *smithy.GenericAPIError {
	fault := smithy.FaultServer
	if sender {
		fault = smithy.FaultClient
	}
	return &smithy.GenericAPIError{Code: aws.ToString(code), Message: aws.ToString(message), Fault: fault}
}

// Throttled reports codes that say "later", whoever is blamed.
func Throttled(code string) bool {
	for _, part := range []string{"Throttl", "OverLimit", "LimitExceeded", "TooManyRequests", "SlowDown"} {
		if strings.Contains(code, part) {
			return true
		}
	}
	return false
}

// Permanent reports an error of a request that would come again: of credentials, of
// permissions, or one that the service's own predicate knows. What the SDK would repeat if
// it were let is not, whatever it looks like: among them a clock that is off.
func Permanent(err error, own func(error) bool) bool {
	if sdkRetries.IsErrorRetryable(err) == aws.TrueTernary {
		return false
	}
	return own(err) || Denied(err) || Coded(err, "InvalidClientTokenId", "UnrecognizedClientException")
}

var sdkRetries = retry.IsErrorRetryables(retry.DefaultRetryables)

// Classify wraps the error of a request by the service, the resource and the operation,
// and marks it if it is permanent.
func Classify(err error, own func(error) bool, wrap func(error) error) error {
	if err == nil {
		return nil
	}
	if Permanent(err, own) {
		return driver.Permanent(wrap(err))
	}
	return wrap(err)
}

// Denied reports a lack of permission.
func Denied(err error) bool {
	return Coded(err, "AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException")
}

// Coded reports errors that have no type of their own.
func Coded(err error, codes ...string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains(codes, api.ErrorCode())
}

// Is reports whether err is an E or wraps one.
func Is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
